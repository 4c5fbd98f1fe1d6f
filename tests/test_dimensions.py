"""The dimensions in which every op is tested: each names the tests that cover it, or why none applies without a GPU."""
# ruff: noqa: E501  (a table)

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# number -> (what, tests of this folder, what is not covered and why)
DIMENSIONS: dict[int, tuple[str, tuple[str, ...], str]] = {
    1: ("accuracy against float64, as a ratio to plain PyTorch", ("test_values_and_gradients_are_accurate",), ""),
    2: ("sample inputs", ("test_values_and_gradients_are_accurate", "test_every_public_function_has_a_row"), ""),
    3: ("error inputs with the text", ("test_bad_arguments_are_refused_by_name_on_real_and_fake_tensors",
                                       "test_bad_arguments_are_refused_where_gradients_are_recorded"), ""),
    4: ("layouts: strided, transposed, sliced, expanded, overlapping, NaN in gaps",
        ("test_layouts_do_not_change_values_or_gradients", "test_upstream_gradients_in_any_layout",
         "test_upstream_gradients_of_stride_zero", "test_layout_of_outputs", "test_fuzz_finds_no_wrong_answer"), ""),
    5: ("zero-size dims", ("test_values_and_gradients_are_accurate", "test_fuzz_finds_no_wrong_answer"), ""),
    6: ("more than 2^31 elements, strides beyond 2^31",
        ("test_rows_and_offsets_beyond_32_bits", "test_gpu_indices_past_two_to_the_31"),
        "tensors themselves: tests/test_reparameterize_kl_large.py, for that op; on a GPU not yet"),
    7: ("dtypes, refused ones too", ("test_values_and_gradients_are_accurate",
                                     "test_different_dtypes_are_refused_outside_autocast_and_made_one_inside"), ""),
    8: ("NaN and infinity", ("test_fuzz_finds_no_wrong_answer",), ""),
    9: ("equal bits from run to run, at any thread count, whatever the batch",
        ("test_results_repeat_at_any_thread_count", "test_a_sample_does_not_depend_on_its_batch"), ""),
    10: ("leaks", ("test_memory_is_flat_over_ten_thousand_calls", "test_forward_without_backward_leaks_nothing",
                   "test_backward_keeps_the_inputs_and_the_seed_only"), "device memory needs a GPU"),
    11: ("sanitizers", ("test_cuda_host_values_and_gradients_are_accurate",),
         "`make sanitize` runs them: address, undefined and thread over the CUDA code on the host; compute-sanitizer needs a GPU"),
    12: ("differential fuzzing", ("test_fuzz_finds_no_wrong_answer", "test_fuzz_finds_no_spoilt_call_that_is_not_refused"), ""),
    13: ("side streams", ("test_gpu_runs_on_the_current_stream",), "needs a GPU"),
    14: ("device guard", ("test_cuda_host_device_is_guarded",), "two devices need two GPUs"),
    15: ("graph capture and replay", ("test_gpu_graph_replays_with_fresh_noise", "test_gpu_first_call_may_be_captured"), "needs a GPU"),
    16: ("compile, dynamic shapes", ("test_compiled_graph_equals_eager", "test_many_batch_sizes_recompile_twice_at_most",
                                     "test_no_graph_break_and_no_guard_on_the_backend", "test_inductor_equals_eager"), ""),
    17: ("double backward", ("test_gradgradcheck", "test_third_order_equals_the_composite",
                             "test_second_order_through_a_compiled_region_is_pytorchs_own_error"), ""),
    18: ("checkpoint recomputes the noise", ("test_checkpoint_recomputes_the_same",), ""),
    19: ("autocast, backward outside the region",
         ("test_backward_runs_outside_the_autocast_region_in_the_dtypes_of_forward",), ""),
    20: ("fork, spawn", ("test_forked_processes_get_the_same", "test_spawned_processes_get_the_same"),
         "forkserver starts a process as spawn does"),
    21: ("threads", ("test_eight_threads_get_the_same_as_one", "test_use_backend_stays_in_its_thread",
                     "test_threads_hold_the_memory_of_the_ops_that_they_call"),
         "free-threaded Python: torch has no build of it for the Python used here"),
    22: ("pickle, deepcopy, state_dict, weights-only load", ("test_modules_copy_pickle_and_load",), ""),
    23: ("each configuration alone on poisoned outputs", ("test_values_and_gradients_are_accurate",),
         "there is no autotuner: block sizes are a function of shapes, and torch.empty is poisoned in every conformance test"),
    24: ("import on a poor machine", ("test_import_and_run_without", "test_import_makes_no_cuda_context_compiles_nothing_and_reads_no_home"), ""),
    25: ("versions", (), "`make matrix` tries the Triton versions supported; torch, Python and architectures are the machine's"),
    26: ("hostile data", ("test_fuzz_finds_no_spoilt_call_that_is_not_refused", "test_a_tensor_whose_memory_was_freed_is_refused",
                          "test_modules_copy_pickle_and_load"), "there is no cache of compiled code of our own to plant anything in"),
}  # fmt: skip


def known_tests() -> set[str]:
    return set(re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in HERE.glob("test_*.py")), re.MULTILINE))


@pytest.mark.parametrize("number", range(1, 27))
def test_each_dimension_is_tested_or_says_why_not(number):
    what, tests, missing = DIMENSIONS[number]
    assert tests or missing, what
    names = known_tests()
    for test in tests:
        assert test in names, f"{what}: {test} is gone"
