"""Reports of wrong numbers, silence and misleading words: for each row, which tests hold the right value.

A1 to F13 are small inputs that once gave a wrong number, nothing at all, or words that mislead; "words" and
"wants" are the lists at the end of E. `ROWS` says where a row's tests are. Rows whose own input is in no
other test have it here.
"""

import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.train.watch import LARGE, Watch

HERE = pathlib.Path(__file__).parent

# By row: what went wrong, then `file::test`, the file without `test_` and `.py`.
ROWS = {
    "A1": (
        "whole numbers beyond 32 bits",
        "fault_rows::test_a1_whole_numbers_beyond_32_bits",
        "gate::test_whole_numbers_arrive_as_they_are_or_not_at_all",
        "gate::test_training_passes_the_gate_in_every_form",
        "gate::test_prediction_passes_the_gate",
        "features::test_whole_numbers_keep_what_tells_them_apart",
    ),
    "A2": (
        "columns of a CSV file in another order, with other names, with one more",
        "table::test_predict_takes_columns_by_name",
        "table::test_columns_are_found_by_their_names",
        "table::test_columns_of_text_are_found_by_their_names_too",
        "table::test_evaluate_refuses_columns_that_changed_their_order",
    ),
    "A3": (
        "labels that are missing, or are numbers ordered as text",
        "table::test_labels_are_ordered_as_what_they_are",
        "table::test_labels_that_are_refused",
    ),
    "A4": (
        "class weights in the loss of a validation split",
        "gate::test_class_weights_do_not_enter_the_validation_loss",
    ),
    "A5": (
        "counters that stand still at 2**24",
        "fault_rows::test_a5_masks_of_many_pixels",
        "metrics_properties::test_counters_do_not_stop",
        "metrics_properties::test_a_batch_may_have_more_than_2_to_the_24",
    ),
    "A6": (
        "the loss of masked sequences by batch size",
        "train_data::test_evaluation_of_masked_sequences_does_not_depend_on_the_batch_size",
        "train_data::test_evaluation_does_not_depend_on_the_batch_size",
        "losses_numpy::test_the_mean_of_training_is_that_of_the_real_rows",
        "beside::test_what_a_loss_leaves_out_counts_in_no_metric",
    ),
    "A7": (
        "half precision before a layer that must see wide",
        "faults_core::test_a_policy_does_not_narrow_what_is_looked_up",
        "faults_core::test_a_policy_does_not_narrow_what_is_normalized_or_rescaled",
        "faults_core::test_a_policy_does_not_narrow_what_is_subtracted",
        "faults_core::test_images_are_seen_in_full_precision",
    ),
    "A8": (
        "weight decay with a mask that means nothing",
        "optimizers::test_masks_that_mean_nothing_are_refused",
        "optimizers::test_weight_decay_by_patterns_of_paths",
        "config::test_patterns_of_decay_in_a_file",
        "config::test_what_an_optimizer_would_misunderstand_is_told_at_its_line",
    ),
    "A9": (
        "class weights of other forms",
        "gate::test_balanced_weights_are_scikit_learns",
        "gate::test_class_weights_in_every_form",
        "gate::test_class_weights_that_are_refused",
        "gate::test_class_weights_in_a_file",
    ),
    "A10": (
        "steps that run backward in a message",
        "fault_rows::test_a10_steps_in_a_message_run_forward",
        "train::test_a_loss_that_explodes_stops_the_fit_and_keeps_the_last_healthy_state",
    ),
    "B1": ("focal losses of large logits", "losses::test_focal_losses_of_extreme_logits"),
    "B2": ("the Tversky index", "losses::test_tversky_is_that_of_its_paper"),
    "C1": ("F1 of one column without a threshold", "fault_rows::test_c1_f1_of_one_column_wants_a_threshold"),
    "C2": (
        "metrics of probabilities beside a loss of logits",
        "fault_rows::test_c2_named_metrics_beside_logits_and_probabilities_are_equal",
        "train::test_metrics_beside_a_loss_from_logits_judge_probabilities",
        "train::test_metrics_beside_a_loss_of_classes_from_logits_judge_the_softmax",
        "beside::test_accuracy_of_several_labels_is_binary",
    ),
    "C3": ("a softmax over one unit", "train::test_endings_that_a_loss_cannot_use"),
    "C4": (
        "raw scores under a loss of probabilities",
        "train::test_endings_that_a_loss_cannot_use",
        "train::test_predictions_that_cannot_be_probabilities_are_told_by_their_values",
    ),
    "D1": (
        "endless iterables, batches by number, batch_size beside an iterable",
        "train_data::test_an_endless_iterable_with_a_number_of_steps",
        "train_data::test_batches_by_number_of_foreign_arrays",
        "train_data::test_sizes_and_second_arguments_are_told",
    ),
    "D2": (
        "a PyTorch DataLoader",
        "train_data::test_batches_by_number_of_foreign_arrays",
        "fault_rows::test_d2_arrays_that_numpy_cannot_read_are_told",
    ),
    "D3": (
        "a terminal of few characters",
        "cli::test_every_command_writes_what_the_terminal_can_show",
        "cli::test_names_that_a_terminal_lacks_are_escaped",
    ),
    "D4": ("a program for each number of rows", "train_data::test_few_programs_serve_any_number_of_rows"),
    "D5": (
        "MultiSteps, blank lines in vocabularies, quoted numbers, padding in numbers",
        "train_tasks::test_optax_multi_steps_is_an_optimizer",
        "text::test_a_blank_line_in_a_vocabulary_is_told_with_its_number",
        "optimizers::test_a_quoted_learning_rate_is_told",
        "explicit_padding::test_padding_in_numbers_is_cut_off_a_transposed_convolution",
        "properties::test_a_transposed_convolution_adds_windows_and_cuts_the_ends",
        "torch_values::test_outputs_gradients_and_statistics",
    ),
    "D6": (
        "schedule-free optimizers in validation",
        "optimizers::test_a_schedule_free_optimizer_is_evaluated_where_it_says",
    ),
    "E1": (
        "functions that broadcast (N,) against (N, 1)",
        "fault_rows::test_e1_own_functions_do_not_broadcast",
        "train::test_targets_without_the_axis_of_one_unit_are_given_it",
        "train::test_a_function_that_broadcasts_targets_over_the_batch_is_refused",
    ),
    "E2": (
        "rows that fill up a last batch",
        "train_data::test_a_loss_that_looks_across_rows_sees_real_ones_only",
        "train_data::test_penalties_of_outputs_and_statistics_see_real_rows_only",
        "train_data::test_gradients_are_those_of_the_rows_that_are_left",
    ),
    "E3": (
        "unnamed layers in two models",
        "faults_core::test_parameters_of_one_model_never_reach_another_layer_of_the_next",
        "faults_core::test_names_of_two_models_that_clash_in_a_third_are_refused",
    ),
    "E4": (
        "NumPy's functions of a masked prediction",
        "fault_rows::test_e4_a_masked_prediction_is_no_array",
        "habits::test_a_slip_is_told_what_to_write",
    ),
    "E5": (
        "layers on sizes that are not known",
        "faults_core::test_models_of_open_sizes",
        "faults_core::test_pools_after_one_another_on_open_sizes",
        "conformance::test_layer_conforms",
    ),
    "E6": (
        "predict traces anew",
        "train_data::test_the_second_call_of_anything_traces_and_compiles_nothing",
        "examples::test_example",
    ),
    "E7": ("events that are never called", "train_state::test_events_that_are_never_called_are_refused"),
    "E8": ("a second fit begins anew", "train_state::test_a_second_fit_without_a_state_is_told"),
    "E words": (
        "errors that name something else",
        "habits::test_a_slip_is_told_what_to_write",
        "habits::test_there_are_thirty_slips_of_each",
        "habits::test_a_batch_of_one_is_added_to_each_sample",
        "habits::test_keras_has_input_among_its_layers",
        "ids::test_ids_out_of_range_are_told_before_the_first_step",
        "train_state::test_one_state_is_alive",
        "graph::test_what_no_node_can_do_is_told",
        "initializers::test_names_arguments_and_defaults_are_those_of_keras",
    ),
    "E wants": (
        "saving, helpers, whole numbers, nodes, inference, keys, Keras's words",
        "saving::test_a_model_comes_back_with_its_weights",
        "saving::test_weights_are_loaded_strictly_or_in_parts",
        "train::test_targets_without_the_axis_of_one_unit_are_given_it",
        "host_helpers::test_pad_sequences_is_kerass",
        "host_helpers::test_to_categorical_is_kerass",
        "host_helpers::test_windows_are_those_of_a_loop",
        "fractions::test_the_result_is_that_of_the_same_fractions",
        "whole_numbers::test_whole_numbers_are_taken_as_by_keras",
        "train_state::test_events_by_step_and_a_stop_in_the_middle_of_an_epoch",
        "train_tasks::test_values_of_layers_are_in_the_logs",
        "graph::test_operators_on_nodes_are_numpys_and_can_be_written_down",
        "compose::test_a_part_in_inference_mode_is_trained_all_the_same",
        "train_data::test_keys_at_inference",
        "graph::test_a_layer_that_samples_in_inference_needs_no_key_while_a_graph_is_made",
        "fault_rows::test_wants_fit_of_a_task_without_targets",
        "train_data::test_dicts_tuples_and_targets_of_some_outputs",
        "ctc_decode::test_greedy_labels_are_those_of_keras",
        "optimizers::test_words_of_keras_are_told",
        "optimizers::test_steps_are_those_of_keras",
    ),
    "F1": (
        "patterns that take for ever",
        "faults_core::test_a_pattern_of_many_stars_ends_at_once",
        "faults_core::test_wherever_patterns_are_taken",
    ),
    "F2": (
        "small files, unbounded work",
        "faults_core::test_many_layers_of_one_kind_take_time_in_proportion",
        "faults_core::test_a_table_of_many_nodes_and_a_long_chain",
        "faults_core::test_repeat_is_of_a_number_that_ends",
        "faults_core::test_steps_that_are_written_into_the_program_are_of_a_number_that_ends",
        "fault_rows::test_f2_many_boundaries_and_long_ngrams",
        "table::test_devices_and_pipes_are_refused_at_once",
        "table::test_a_file_takes_little_more_memory_than_its_numbers",
        "runs_endings::test_a_place_for_runs_that_is_no_folder_is_told",
    ),
    "F3": (
        "the last healthy state after its last update",
        "train_state::test_the_last_update_is_judged_too",
        "train_state::test_after_nan_the_last_healthy_state_is_handed_over",
        "runs_endings::test_one_step_with_an_absurd_rate_is_a_failure",
        "runs_endings::test_what_is_not_finite_fails_and_good_weights_stay",
    ),
    "F4": (
        "work lost with an error",
        "train_state::test_an_error_in_a_callback_hands_over_the_state",
        "train_state::test_an_error_in_a_loader_hands_over_the_state",
        "train_state::test_control_c_in_a_dispatch_keeps_the_new_state",
        "train_state::test_an_error_at_the_end_does_not_silence_the_others",
        "train_state::test_validation_data_are_looked_at_before_the_first_step",
        "runs_endings::test_held_out_data_are_looked_at_before_the_first_step",
        "runs_endings::test_the_best_weights_are_on_the_disk_before_anything_else_runs",
    ),
    "F5": (
        "a run's status",
        "runs_endings::test_a_signal_leaves_a_true_status_and_whole_files",
        "runs_endings::test_a_reader_that_goes_away_does_not_end_a_training",
        "runs_endings::test_an_interruption_before_the_first_epoch_is_noted",
        "runs_endings::test_a_full_disk_is_told_and_noted",
        "runs_endings::test_a_folder_that_vanishes_does_not_hide_the_error",
        "runs_endings::test_a_torn_last_line_of_metrics_is_left_out",
        "runs_endings::test_signals_wait_while_files_are_written",
        "runs_endings::test_evaluate_tells_of_a_killed_run",
    ),
    "F6": (
        "names that clash",
        "faults_core::test_two_layers_never_share_one_path",
        "faults_core::test_two_arrays_never_share_one_path",
        "faults_core::test_a_layer_does_not_bear_a_name_that_means_something_in_a_state",
        "faults_core::test_siblings_never_start_with_the_same_weights",
        "cli::test_two_arrays_under_one_path_are_refused",
    ),
    "F7": (
        "carries among the weights",
        "cli::test_a_stateful_run_is_evaluated_and_applied_to_any_number_of_rows",
    ),
    "F8": (
        "the command line's gate",
        "table::test_predict_takes_columns_by_name",
        "table::test_predict_without_a_header_when_told_so",
        "table::test_the_held_out_file_is_read_by_names",
        "gate::test_new_data_are_of_the_kind_of_the_training_data",
        "cli::test_predict_reads_csv_as_the_run_did",
        "cli::test_masked_outputs_keep_their_mask",
        "cli::test_outputs_go_where_they_were_asked_to",
    ),
    "F9": (
        "labels and weights",
        "data::test_one_hot_refuses_labels_out_of_range",
        "data::test_mnist_labels_beyond_32_bits_are_refused",
        "table::test_a_label_of_the_held_out_file_alone_is_told_with_its_line",
        "table::test_labels_that_are_refused",
        "gate::test_class_weights_that_are_refused",
        "optimizers::test_transformations_alone_would_climb_and_are_refused",
        "fault_rows::test_f9_samples_of_no_width",
    ),
    "F10": (
        "values that mean nothing or something else",
        "config::test_training_options_out_of_range",
        "config::test_a_tag_does_not_make_a_value_of_something_else",
        "gate::test_a_seed_that_a_key_does_not_hold_is_refused",
        "table::test_cells_that_are_no_numbers",
        "cli::test_what_differs_from_the_training_is_told",
        "fault_rows::test_f10_a_length_that_lies",
    ),
    "F11": ("memory that is kept", "train_data::test_models_and_trainers_are_let_go"),
    "F12": ("a forked child", "train_state::test_a_forked_process_is_told"),
    "F13": (
        "tracebacks and wrong places",
        "config::test_documents_that_are_refused",
        "damaged_files::test_a_damaged_file_is_read_or_refused_with_its_name",
        "data::test_npy_headers_that_lie",
        "data::test_idx_compressed_files_that_are_cut",
        "faults_core::test_layers_inside_layers_end_before_pythons_stack_does",
        "faults_core::test_a_table_of_many_nodes_and_a_long_chain",
        "fault_rows::test_f13_an_output_by_number_and_no_rows",
        "cli::test_errors_of_any_kind_are_told_in_a_line",
        "cli::test_a_damaged_file_of_a_run_is_named",
        "cli::test_a_platform_that_is_not_there_is_told",
        "cli::test_brackets_in_names_are_no_markup",
        "gate::test_a_share_for_validation_that_is_too_small_is_blamed_on_its_own_line",
        "gate::test_faults_of_validation_data_say_so",
        "table::test_lines_are_counted_as_an_editor_counts_them",
    ),
}


def names_in(file):
    tree = ast.parse((HERE / f"test_{file}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_has_its_tests():
    named = [name for _, *names in ROWS.values() for name in names]
    files = {name.split("::")[0] for name in named}
    known = {f"{file}::{test}" for file in files for test in names_in(file)}
    assert [name for name in named if name not in known] == []


X = np.ones((4, 2), np.float32)
LINEAR = jl.Dense(1)
ONES = ({"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}, {})


def test_a1_whole_numbers_beyond_32_bits():
    times = np.array([[1_700_000_000_000], [1_700_000_060_000], [1_700_086_400_000]])
    layer = jl.adapt(jl.Normalization(), times)
    with pytest.raises(ValueError, match=r"received x\[0, 0\]=1700000000000; subtract an offset"):
        jl.predict(layer, ({}, {}), times)
    table = jl.Embedding(9, 2)
    with pytest.raises(ValueError, match=r"received x\[0, 0\]=4294967299"):
        jl.predict(table, table.init(jax.random.key(0), np.array([[1]])), np.array([[2**32 + 3]]))
    seconds = (times - 1_700_000_000_000) // 1000
    small = jl.adapt(jl.Normalization(), seconds)
    np.testing.assert_allclose(
        jl.predict(small, ({}, {}), seconds)[:, 0], [-0.7079, -0.7064, 1.4142], atol=1e-4
    )


def test_a5_masks_of_many_pixels():
    """The confusion of 2**25 pixels, of which one cell has more than 2**24."""
    metric = jl.metrics.MeanIoU(2)
    update = jax.jit(metric.update)
    y = np.zeros((8, 512, 512), np.int32)
    p = np.array(y)
    y[:, :40], p[:, 20:60] = 1, 1
    acc = metric.init()
    for _ in range(16):
        acc = update(acc, y, p)
    pairs = [[((y == i) & (p == j)).sum() for j in (0, 1)] for i in (0, 1)]
    iou = [pairs[i][i] / (sum(pairs[i]) + pairs[0][i] + pairs[1][i] - pairs[i][i]) for i in (0, 1)]
    np.testing.assert_allclose(float(metric.result(acc)), np.mean(iou), rtol=1e-6)


def test_a10_steps_in_a_message_run_forward():
    watch = Watch((), None, 0, 3)
    assert "in epoch 1, in step 2;" in str(watch.failed("the loss became nan", 2, LARGE))
    assert "between its steps 4 and 7;" in str(watch.failed("the loss became nan", 7, LARGE))


def test_c1_f1_of_one_column_wants_a_threshold():
    y, p = np.array([[1], [0], [1]]), np.array([[0.7], [0.6], [0.2]], np.float32)
    with pytest.raises(ValueError, match="expected a threshold for predictions of one column"):
        jl.metrics.F1Score(average="micro")(y, p)
    assert float(jl.metrics.F1Score(average="micro", threshold=0.5)(y, p)) == pytest.approx(0.5)


def test_c2_named_metrics_beside_logits_and_probabilities_are_equal():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 1)).astype(np.float32)
    y = (rng.random(32) < 0.5).astype(np.float32)
    names = ["accuracy", "binary_accuracy", "auc", "precision", "recall"]
    logits = jl.compile(jl.Activation("linear"), "sgd", jl.losses.BinaryCrossentropy(from_logits=True), names)
    shares = jl.compile(jl.Activation("sigmoid"), "sgd", "binary_crossentropy", names)
    expected = jl.evaluate(shares, ({}, {}), x, y)
    assert jl.evaluate(logits, ({}, {}), x, y) == pytest.approx(expected, rel=1e-5)


def test_d2_arrays_that_numpy_cannot_read_are_told():
    class Tensor:
        shape = (4, 2)

        def __array__(self, dtype=None, copy=None):
            raise TypeError("Got unsupported ScalarType BFloat16")

    trainer = jl.compile(LINEAR, "sgd", "mse")
    with pytest.raises(TypeError, match=r"x as arrays that NumPy can read.*BFloat16; convert it .*float\(\)"):
        jl.fit(trainer, [(Tensor(), np.ones(4))])


def test_e1_own_functions_do_not_broadcast():
    x = np.arange(6.0)[:, None]
    trainer = jl.compile(LINEAR, "sgd", lambda t, p: jnp.square(t - p))
    assert jl.evaluate(trainer, ONES, x, 2 * x[:, 0])["loss"] == pytest.approx(55 / 6)


def test_e4_a_masked_prediction_is_no_array():
    words = jl.Embedding(9, 3, mask_zero=True)
    ids = np.array([[1, 0]])
    predicted = jl.predict(words, words.init(jax.random.key(0), ids), ids)
    with pytest.raises(TypeError, match=r"x\.values"):
        np.argmax(predicted, axis=-1)


def test_wants_fit_of_a_task_without_targets():
    def reconstruct(call, batch, key):
        return jnp.square(call("model", batch.x) - batch.x).mean()

    _, history = jl.fit(jl.compile(jl.Task({"model": jl.Dense(2)}, reconstruct), "sgd"), X, epochs=2)
    assert history["loss"][1] < history["loss"][0]


def test_f2_many_boundaries_and_long_ngrams():
    layer = jl.Discretization([float(i) for i in range(20_000)])
    assert layer.apply({}, {}, jnp.array([[3.5, 19_999.5]]))[0].tolist() == [[4, 20_000]]
    with pytest.raises(ValueError, match="ngrams of at most 100 tokens"):
        jl.TextVectorization(ngrams=100_000_000)


def test_f9_samples_of_no_width():
    with pytest.raises(ValueError, match=r"at least one value in each sample, received x=float32\(2, 0\)"):
        jl.fit(jl.compile(LINEAR, "sgd", "mse"), np.ones((2, 0)), np.ones(2))


def test_f10_a_length_that_lies():
    class Batches:
        def __init__(self, length):
            self.length = length

        def __len__(self):
            return self.length

        def __getitem__(self, number):
            return [(X, np.ones(4, np.float32))][number]

    with pytest.raises(ValueError, match=r"expected 3 batches, .*received IndexError for source\[1\]"):
        jl.fit(jl.compile(LINEAR, "sgd", "mse"), Batches(3))
    state, _ = jl.fit(jl.compile(LINEAR, "sgd", "mse"), Batches(1), callbacks=None)
    assert int(state.step) == 1


def test_f13_an_output_by_number_and_no_rows():
    with pytest.raises(ValueError, match="expected the batch to be left whole"):
        jl.Input((2,))[7]
    with pytest.raises(ValueError, match="expected at least one sample"):
        jl.fit(jl.compile(LINEAR, "sgd", "mse"), X[:0], np.ones(0))
