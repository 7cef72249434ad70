"""How each command of the pages is shown to work: followed with its page, typed, run by another test, or why it cannot be run here."""

from __future__ import annotations

from dataclasses import dataclass

TUTORIAL = tuple(f"docs/tutorial/{page}.md" for page in ("index", "own-data", "own-step", "own-pipeline"))
FOLLOWED = (*TUTORIAL, "docs/how-to/gpu.md")
"""Pages that are followed word for word in a fresh clone (`tests/docs/clone.py`), but for commands of NOT_HERE."""


@dataclass(frozen=True)
class Typed:
    """A command that is typed in the clone after the tutorial: as it stands, or with names that are there."""

    prints: str
    command: str = ""


_DRY = "make --no-print-directory --dry-run {}"
"""`make pipeline-local` takes minutes: what it would run is looked at, and once planned, which reads arguments and compiles."""
_PLANNED = f"eval \"$({_DRY} | sed -n '/intermodal run/,$p' | sed 's/intermodal run/intermodal plan/')\""

TYPED = {
    # README.md; the newest run is one of the factory, in which only the trainer ran
    ".venv/bin/intermodal plan pipelines/ner.py": Typed("plan of ner-model-factory"),
    ".venv/bin/intermodal runs": Typed("ner-model-factory-"),
    ".venv/bin/intermodal show": Typed("selector"),
    ".venv/bin/intermodal why trainer": Typed("it ran: "),
    ".venv/bin/intermodal diff RUN": Typed(
        "13 the same",  # the trainer ran again, and gave the same
        ".venv/bin/intermodal diff $(ls .intermodal/runs | grep ner-model-factory | head -1)",
    ),
    ".venv/bin/intermodal report": Typed("report.html"),
    ".venv/bin/intermodal logs trainer": Typed("epoch 1/1"),
    ".venv/bin/intermodal resume": Typed(
        "done before", ".venv/bin/intermodal resume || [ $? = 1 ]"
    ),  # that of the tutorial
    ".venv/bin/intermodal shell trainer": Typed("components", ".venv/bin/intermodal shell trainer -c 'ls /app'"),
    ".venv/bin/intermodal replay trainer": Typed("on record", ".venv/bin/intermodal replay trainer || [ $? = 1 ]"),
    ".venv/bin/intermodal doctor": Typed("ok    engine"),
    "make pipeline-local": Typed("intermodal run pipelines/ner.py --backend docker", _DRY.format("pipeline-local")),
    "make pipeline-local DATA=~/documents": Typed('--arg data="mydata"', _DRY.format("pipeline-local DATA=mydata")),
    "make pipeline-local CONFIG=pipelines/configs/smoke.yaml": Typed(
        '--config "pipelines/configs/smoke.yaml"', _DRY.format("pipeline-local CONFIG=pipelines/configs/smoke.yaml")
    ),
    'make pipeline-local ARGS="--arg backbones=[minilm] --arg search.trials=8"': Typed(
        "for-loop-2/0/trainer", _PLANNED.format("pipeline-local ARGS='--arg backbones=[minilm] --arg search.trials=8'")
    ),
    ".venv/bin/intermodal run my_pipeline.py --arg text=hello": Typed(
        "succeeded", "intermodal run pipelines/redacting.py --arg data=mydata"
    ),
    ".venv/bin/intermodal run compiled.yaml": Typed(
        "succeeded", "intermodal run dist/redacting.yaml --arg data=mydata"
    ),
    # docs/how-to/azureml.md
    "cat dist/ner-azureml/report.md": Typed("2 iterations", "cat dist/redacting-azureml/report.md"),
    # docs/how-to/air-gapped.md
    "mkdir carry": Typed(""),
    ".venv/bin/python -m pip download --quiet --no-deps --require-hashes --dest carry/wheels "
    "--requirement requirements/dev.txt": Typed(
        "pip-",  # 250 MB: a small lock instead
        ".venv/bin/python -m pip download --quiet --no-deps --require-hashes --dest carry/wheels "
        "--requirement requirements/build.txt; ls carry/wheels",
    ),
    ".venv/bin/python -m pip download --quiet --dest carry/wheels setuptools setuptools-scm wheel": Typed(""),
    "cp .intermodal/wheels/*.whl carry/wheels": Typed(""),
    "docker save intermodal/base:dev --output carry/base.tar": Typed(""),
    "docker load --input carry/base.tar": Typed(
        "intermodal/base:dev", "docker load --input carry/base.tar; rm carry/base.tar"
    ),
    "export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/carry/wheels": Typed(
        "intermodal/redact:dev",  # with no wheel here, and an index that nothing may ask
        "export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/carry/wheels PIP_INDEX_URL=http://127.0.0.1:9/ "
        "PIP_EXTRA_INDEX_URL=; intermodal build redact --state fresh",
    ),
    # docs/how-to/postgresql.md, docs/hpo.md: their searches take an hour; what they would run is planned
    "intermodal run pipelines/ner.py --arg search.trials=20 --arg search.sampler=tpe --arg search.pruner=asha": Typed(
        "for-loop-2/1/hpo",
        "intermodal plan pipelines/ner.py --arg search.trials=20 --arg search.sampler=tpe --arg search.pruner=asha",
    ),
    "intermodal run pipelines/ner.py --arg workers=4 --arg search.trials=40": Typed(
        "for-loop-2/0/for-loop-3/3/hpo-worker",
        "intermodal plan pipelines/ner.py --arg workers=4 --arg search.trials=40",
    ),
    "intermodal run pipelines/ner.py --arg workers=4 --network hpo=bridge --network hpo-worker=bridge": Typed(
        "for-loop-2/0/for-loop-3/3/hpo-worker",
        "intermodal plan pipelines/ner.py --arg workers=4 --network hpo=bridge --network hpo-worker=bridge",
    ),
    "mkdir -p .intermodal/secrets/intermodal-hpo": Typed(""),
    "echo postgresql://postgres:secret@172.17.0.1:5432/studies > .intermodal/secrets/intermodal-hpo/storage-url": Typed(
        ""
    ),
    "chmod 600 .intermodal/secrets/intermodal-hpo/storage-url": Typed(""),
}
"""Command of a page -> how it is typed and what it must print. In order."""

_SUBMIT = "tests/backends/azureml/test_submit.py::"
_KUBEFLOW = "tests/backends/kubeflow/test_kubeflow.py::"
_BACKUP = "tests/backup/test_backup.py::"
_ROTTED = "tests/backup/test_trouble.py::test_what_rotted_at_the_place_is_put_there_anew"
_TREE = "tests/tracking/test_tree.py::test_a_run_its_tasks_and_its_trials_are_a_tree"
_LOCAL_SERVER = "tests/tracking/test_trouble.py::test_the_local_server_is_started_once_and_what_it_missed_is_sent_later"
_FIND = "tests/tracking/test_find.py::"
_FOUND = f"{_FIND}test_the_command_finds_refuses_and_says_how_old_the_index_is"
_REGISTER = (
    "tests/tracking/test_registry.py::test_two_machines_that_register_the_same_bytes_at_once_end_with_one_version"
)
_ON_AND_CANCEL = f"{_SUBMIT}test_a_run_goes_on_without_its_laptop_and_is_cancelled_from_another"

_COMPILED = "tests/e2e/test_factory.py::test_the_factory_compiled_for_azureml_makes_the_same_bytes"

ELSEWHERE = {
    "intermodal compile pipelines/ner.py -o dist/ner.yaml": (
        "tests/e2e/test_factory.py::test_the_compiled_pipeline_runs_as_the_source_does"
    ),
    "intermodal compile pipelines/ner.py --backend azureml -o job/": _COMPILED,
    "intermodal compile pipelines/ner.py --backend azureml -o dist/ner-azureml": _COMPILED,
    "intermodal run pipelines/ner.py --arg refit=true": (
        "tests/e2e/test_factory.py::test_a_refit_learns_from_all_documents_once_the_champion_is_chosen"
    ),
    "make docs": "tests/docs/test_site.py::site",
    "intermodal submit pipelines/ner.py --wait": f"{_SUBMIT}test_a_run_there_leaves_the_record_that_a_run_here_leaves",
    "intermodal submit pipelines/ner.py --arg data=mydata --wait": f"{_SUBMIT}test_data_goes_up_once_by_its_content",
    "intermodal submit pipelines/ner.py --config pipelines/configs/smoke.yaml --emulator .intermodal/azureml --wait": (
        f"{_SUBMIT}test_a_run_there_leaves_the_record_that_a_run_here_leaves"
    ),
    "intermodal resume RUN": _ON_AND_CANCEL,
    "intermodal cancel RUN": _ON_AND_CANCEL,
    "intermodal fetch RUN": f"{_SUBMIT}test_a_run_there_leaves_the_record_that_a_run_here_leaves",
    "intermodal doctor --backend azureml": f"{_SUBMIT}test_the_doctor_says_what_submitting_lacks",
    "intermodal azureml emulate": "tests/cli/test_azureml.py::test_ctrl_c_cancels_the_job",
    "intermodal azureml emulate job.yml [job.yml ...]": "tests/cli/test_azureml.py::test_job_files_run_in_containers",
    "intermodal submit pipelines/ner.py --backend kubeflow --wait": (
        f"{_KUBEFLOW}test_a_run_is_sent_once_and_followed_by_task"
    ),
    "make images-push": "tests/build/test_push.py::test_pushed_images_are_in_the_registry_by_the_digests_of_the_lock",
    "intermodal backup /content/drive/MyDrive/studies": f"{_BACKUP}test_studies_go_on_on_a_fresh_machine",
    "intermodal backup az://container/studies": "tests/backup/test_remote.py::test_a_place_that_fsspec_reaches",
    "intermodal backup PLACE --list": _ROTTED,
    "intermodal backup PLACE --list --verify": _ROTTED,
    "intermodal restore PLACE": f"{_BACKUP}test_studies_go_on_on_a_fresh_machine",
    "make pipeline-local ARGS='--arg backbones=[minilm,distilbert-base-uncased]'": (
        "tests/pipelines/test_experiment.py::test_a_hub_backbone_is_pinned_to_the_commit_of_its_revision"
    ),
    "make pipeline-local ARGS='--arg backbones=[./carry/distilroberta]'": (
        "tests/pipelines/test_experiment.py::test_an_own_backbone_folder_becomes_an_artifact"
    ),
    ".venv/bin/intermodal tracking up": _LOCAL_SERVER,
    ".venv/bin/intermodal find --produced DIGEST": _FOUND,
    ".venv/bin/intermodal register": _REGISTER,
    "intermodal find 3f2a9c1b4d5e6f70": _FOUND,
    "intermodal find --produced sha256:99707f61a893...": (_FOUND),
    "intermodal find --consumed 99707f61a893": _FOUND,
    "intermodal find --pipeline ner-model-factory --component trainer --param seed=13 --metric 'validation_macro_f1>=0.9'": _FOUND,
    "intermodal find --run RUN --kind pipeline --json": _FOUND,
    "intermodal index": _FOUND,
    "intermodal index --status": _FOUND,
    "intermodal index --rebuild": _FOUND,
    "intermodal lineage 99707f61a893": _FOUND,
    "intermodal lineage RUN": _FOUND,
    "intermodal register RUN [--name NAME] [--output champion]": _REGISTER,
    "intermodal run PIPELINE --track": _TREE,
    "intermodal tracking sync [RUN ...]": _LOCAL_SERVER,
    "intermodal tracking up [--port N]": _LOCAL_SERVER,
    "intermodal tracking status": _LOCAL_SERVER,
    "intermodal tracking down": _LOCAL_SERVER,
}
"""Command -> the test that runs it, with names of its own."""

_BEGINS = "`make test`, which runs this, begins with it"
_WORKSPACE = "needs a live AzureML workspace; on the emulator: tests/backends/azureml/test_submit.py"
_CHECKOUT = (
    "needs a checkout of a public repository, and minutes; its parts: tests/corpus, tests/backends/azureml/emulator"
)

NOT_HERE = {
    "pip install 'intermodal[tracking]'": "the locked environment holds it; no index holds this project",
    "pip install 'intermodal[registry]'": "the locked environment holds it; no index holds this project",
    "cat > .intermodal/secrets/intermodal-hpo/storage-url": "waits for input; how-to/postgresql.md writes the same, and is typed",
    "docker run --detach --name studies --publish 5432:5432 --env POSTGRES_PASSWORD=secret --env POSTGRES_DB=studies postgres:17": (
        "an image of a registry; a real PostgreSQL of Debian takes its place in tests/components/hpo/test_workers.py"
    ),
    "kubectl create secret generic intermodal-hpo --from-literal=storage-url=postgresql://USER:PASSWORD@HOST:5432/studies": (
        "needs a cluster"
    ),
    "make images": _BEGINS,
    "make venv": _BEGINS,
    "make test": "is what runs this",
    "make test-fast": "a part of what runs this",
    "make lint": "the last verb of .ci/run",
    "make conformance CORPUS=<checkout of kubeflow/pipelines>": _CHECKOUT,
    "make conformance CORPUS=... BACKEND=azureml": _CHECKOUT,
    'make examples EXAMPLES=<checkout of Azure/azureml-examples> IMAGES="*=IMAGE"': _CHECKOUT,
    "make images-push && make submit": _WORKSPACE,
    "az login": _WORKSPACE,
    "az acr login --name myregistry": _WORKSPACE,
    "sudo nvidia-ctk runtime configure --runtime=docker": "needs a GPU and the right to change the machine",
    "sudo systemctl restart docker": "would end the engine that the tests run on",
    "docker run --rm --gpus all debian:12 nvidia-smi": "needs a GPU",
    "cosign verify --certificate-oidc-issuer https://token.actions.githubusercontent.com "
    "--certificate-identity-regexp '^https://github.com/OWNER/REPOSITORY/.github/workflows/images.yml@' IMAGE@DIGEST": (
        "needs an image that the workflow has signed"
    ),
}
"""Command -> why no test can run it."""
