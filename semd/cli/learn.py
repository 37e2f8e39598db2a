"""Commands that learn: dataset build, train score, train control, train sweep."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

if TYPE_CHECKING:
    from semd.training.control.control_settings import TrainingConfig

dataset_app = typer.Typer(help="Labelled frames to train the scoring machine on.", no_args_is_help=True)
train_app = typer.Typer(help="Train the scoring or the control machine.", no_args_is_help=True)

PresetOption = Annotated[str, typer.Option(help="default, or paper: the published values.")]
RunOption = Annotated[Path, typer.Option("--run", help="Where checkpoint, curve and weights go.")]
SeedOption = Annotated[int | None, typer.Option(help="Default: the preset's.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
PromoteOption = Annotated[
    Path | None, typer.Option(help="A models folder: put the weights there and enter them in its manifest.")
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes, where no --address is given.")]
AddressOption = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, auto or HOST:PORT, all of whose machines have semd and share --run."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    dataset_app.command("build")(build)
    app.add_typer(dataset_app, name="dataset")
    train_app.command("score")(score)
    train_app.command("control")(control)
    train_app.command("sweep")(sweep)
    app.add_typer(train_app, name="train")


def build(
    directory: Annotated[Path, typer.Argument(help="A new folder.")],
    frames: Annotated[int, typer.Option(min=1, help="Tin ball and grid frames; the papers' number.")] = 30272,
    frames_per_field: Annotated[int, typer.Option(min=1, help="Frames of each field of view.")] = 6,
    magnifications: Annotated[
        str, typer.Option(help="Comma separated; equally frequent.")
    ] = "500,1000,2000,5000,10000",
    assorted_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Further frames of other surfaces, for training only.")
    ] = 0.2,
    beads_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the other surfaces, fine layers of latex beads.")
    ] = 0.0,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fields, and frames, kept for the two tests; default: the papers'.")
    ] = 3037 / 30272,
    empty_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the grid's fields, in the middle of a hollow.")
    ] = 0.0,
    far_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the blurs, beyond the scale's end, where a run may begin.")
    ] = 0.0,
    smoothed_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the other blurs, done to the finished frame, noise and all.")
    ] = 0.0,
    label_noise: Annotated[float, typer.Option(min=0.0, help="The expert's standard deviation in points.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Simulate labelled frames."""
    from semd.datasets.simulated import DatasetSpec, build_dataset, read_magnifications

    spec = DatasetSpec(
        frames=frames,
        frames_per_field=frames_per_field,
        magnifications=read_magnifications(magnifications),
        assorted_share=assorted_share,
        beads_share=beads_share,
        test_share=test_share,
        empty_share=empty_share,
        far_share=far_share,
        smoothed_share=smoothed_share,
        label_noise=label_noise,
        seed=seed,
    )
    print(build_dataset(spec, directory, workers))


def score(
    data: Annotated[
        list[Path], typer.Option(help="A dataset; `semd dataset build` makes one. Several are taken together.")
    ],
    run: RunOption,
    preset: Annotated[
        str,
        typer.Option(
            help="default; further: more passes from --start; heads: no passes, the heads and the spectrum's reader "
            "learn on from --start; paper: the published values."
        ),
    ] = "default",
    start: Annotated[Path | None, typer.Option(help="Weights to go on from instead of random ones.")] = None,
    aside: Annotated[
        Path | None,
        typer.Option(
            help="A dataset to watch and to measure certainty on, for --start that has seen fields of --data."
        ),
    ] = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share each batch.")] = 2,
    network: Annotated[
        str, typer.Option(help="ours, or a rival to compare with: resnet50, no-magnification.")
    ] = "ours",
    passes_scale: Annotated[float, typer.Option(min=0.0, help="Multiplies the passes.")] = 1.0,
    rate_scale: Annotated[
        float, typer.Option(min=0.0, help="Multiplies the learning rates; below 1 for weights that are nearly there.")
    ] = 1.0,
    promote: PromoteOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Train the scoring machine; goes on where an interrupted run in the same folder stopped."""
    from semd.model_store import store_model
    from semd.training.score.other_networks import OURS, shortened, slower, with_network
    from semd.training.score.score_training import train_scorer
    from semd.training.score.scorer_manifest_entry import scorer_entry
    from semd.training.score.training_config import preset as scoring_preset

    if promote is not None and (network != OURS or passes_scale != 1.0 or rate_scale != 1.0):
        raise ConfigError("--promote ships our network, trained as the preset says; leave out --network and the scales")
    config = with_network(scoring_preset(preset, seed if seed is not None else 0, threads), network)
    config = slower(shortened(config, passes_scale), rate_scale)
    if start is not None and not start.is_file():
        raise ConfigError(f"--start {start}: there is no such file")
    result = train_scorer(config, data, run, start=start, aside=aside, processes=processes)
    if result.finished and promote is not None and result.weights is not None and result.report is not None:
        entry = scorer_entry(config, data, result.report, preset, processes, aside)
        store_model(promote, "scorer", result.weights.read_bytes(), entry)
    if as_json:
        print_json(
            {
                "finished": result.finished,
                "epochs": result.epochs,
                "report": result.report and asdict(result.report),
            }
        )
    raise typer.Exit(0 if result.finished else 1)


def control(
    run: RunOption,
    preset: PresetOption = "default",
    frames: Annotated[int | None, typer.Option(min=1, help="Simulated frames in all.")] = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    promote: PromoteOption = None,
    from_records: Annotated[
        Path | None, typer.Option(help="A daemon's state directory: learn from the runs it recorded as well.")
    ] = None,
    records_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="With --from-records: of each batch, the rest is simulated.")
    ] = 0.25,
    start: Annotated[
        Path | None, typer.Option(help="With --from-records: the actor to go on from; default: the one in use.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="With --from-records: the daemon's configuration; default: semd's defaults.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="With --images: processes.")] = 2,
    address: AddressOption = None,
    *,
    images: Annotated[
        bool,
        typer.Option("--images", help="Rollouts on rendered frames and the scoring machine, in workers; extra `ray`."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the control machine on the feature-level twin of the simulator (Algorithm 1).

    With --from-records it starts from an actor that has learned already and nothing is promoted that became worse.
    With --images it learns on rendered frames; curve and best weights still go by the twin.
    """
    from semd.model_store import store_model
    from semd.training.control.actor_manifest_entry import actor_entry
    from semd.training.control.control_settings import PRESETS
    from semd.training.control.control_training import train_control
    from semd.training.control.twin_environment import make_evaluation, make_twin

    if preset not in ("default", "paper"):
        raise ConfigError(f"preset {preset!r} is not known; there are default and paper")
    base = PRESETS["paper" if preset == "paper" else "default"]
    base = replace(base, threads=threads, seed=seed if seed is not None else base.seed)
    if from_records is not None:
        if images:
            raise ConfigError("--images and --from-records do not go together")
        _control_from_records(
            base,
            run,
            preset,
            frames,
            promote,
            from_records,
            records_share,
            start,
            config,
            resume=resume,
            as_json=as_json,
        )
        return
    if start is not None or config is not None:
        raise ConfigError("--start and --config go with --from-records")
    settings = replace(base, max_frames=frames if frames is not None else base.max_frames)
    if images:
        from semd.training.control.ray_cluster import cluster
        from semd.training.control.rollouts import RemoteEnvironment, image_environments

        with cluster(workers, address) as ray:
            remote = RemoteEnvironment(ray, image_environments(settings), settings.n_envs, workers)
            result = train_control(settings, remote, make_evaluation(settings), run, resume=resume)
    else:
        result = train_control(settings, make_twin(settings), make_evaluation(settings), run, resume=resume)
    print(result.pace.as_text())
    if promote is not None:
        entry = actor_entry(settings, result, preset)
        if images:
            entry["training"] |= {
                "data": "rendered frames, semd.simulator.control_stand, judged by the scoring machine"
            }
            entry["training"]["command"] += " --images"
        store_model(promote, "actor", result.best_path.read_bytes(), entry)
    if as_json:
        counts = {"frames": result.frames, "updates": result.updates, "seconds": result.pace.seconds}
        print_json({**counts, **asdict(result.last)})


def sweep(
    run: Annotated[Path, typer.Option("--run", help="A folder for sweep.csv and a run folder of each combination.")],
    seeds: Annotated[str, typer.Option(help="Comma separated.")] = "0,1,2",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE,VALUE... of a training setting; may come several times."),
    ] = None,
    preset: PresetOption = "default",
    frames: Annotated[int | None, typer.Option(min=1, help="Simulated frames of each training.")] = None,
    workers: WorkersOption = 2,
    address: AddressOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Train the control machine for every combination of settings and seeds, as tasks of Ray (extra `ray`).

    Called again it skips what has ended and goes on with what has not. The figures are those of the best weights on
    the twin.
    """
    from semd.training.control.control_settings import PRESETS
    from semd.training.control.hyperparameter_sweep import train_sweep
    from semd.training.control.sweep_plan import plan_sweep

    if preset not in ("default", "paper"):
        raise ConfigError(f"preset {preset!r} is not known; there are default and paper")
    base = PRESETS["paper" if preset == "paper" else "default"]
    base = replace(base, max_frames=frames if frames is not None else base.max_frames)
    found = train_sweep(plan_sweep(base, seeds, settings or []), run, workers=workers, address=address)
    print(found.as_text())
    if as_json:
        print_json(found.as_json())
    raise typer.Exit(1 if found.failed else 0)


def _control_from_records(
    base: TrainingConfig,
    run: Path,
    preset: str,
    frames: int | None,
    promote: Path | None,
    records: Path,
    share: float,
    start: Path | None,
    config: Path | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    from semd.config import load_config
    from semd.control.policy import ActorPolicy
    from semd.model_store import default_directory, load_model, store_model
    from semd.training.control.learning_from_records import learn_from_records, records_config

    if start is not None and not start.is_file():
        raise ConfigError(f"--start {start}: there is no such file")
    daemon = load_config(config) if config is not None else None
    models = (daemon.models.directory if daemon is not None else None) or default_directory()
    weights = start.read_bytes() if start is not None else load_model(models, "actor").data
    settings = records_config(base, ActorPolicy.load(weights), share, frames)
    lesson = learn_from_records(settings, records, weights, run, daemon=daemon, resume=resume)
    promoted = promote is not None and not lesson.became_worse
    if promote is not None and promoted:
        store_model(promote, "actor", lesson.training.best_path.read_bytes(), lesson.entry(preset))
    print(lesson.as_text())
    if promote is not None and not promoted:
        print("nothing was promoted")
    if as_json:
        print_json({**lesson.as_json(), "promoted": promoted})
    raise typer.Exit(0 if promote is None or promoted else 1)
