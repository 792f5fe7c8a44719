import torch

from common.training.seeds import derive, generator, threads_of


def test_every_run_use_and_position_has_a_seed_of_its_own():
    seeds = {derive(run, use, at) for run in range(5) for use in ("order", "augmentation") for at in range(50)}
    assert len(seeds) == 500 and all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_stay_what_they_were():
    # Written down once: if these change, no run can be made again.
    assert derive(0, "initialisation") == 4445282183875951195


def test_a_generator_starts_anew_each_time():
    one, other = (torch.rand(3, generator=generator(1, "order", 2)) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(one, torch.rand(3, generator=generator(1, "order", 3)))


def test_threads_are_counted_and_another_number_or_a_gpu_is_said(capsys):
    now = torch.get_num_threads()
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert threads_of(cpu, [], "run") == threads_of(cpu, [now], "run") == [now] and capsys.readouterr().err == ""
    assert threads_of(cpu, [now + 1], "run") == [now + 1, now]
    said = capsys.readouterr().err
    assert said.startswith(f"run: trained with {now + 1} threads so far, now with {now}; it ends with other bits")
    assert (
        threads_of(gpu, [now], "run") == [now]
        and "run: on cuda a run that goes on need not end" in capsys.readouterr().err
    )
