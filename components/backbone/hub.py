"""Download of a backbone from the Hugging Face Hub: safetensors, configuration and tokenizer, nothing else."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.backbone import registry
from components.backbone.folder import (
    CONFIG,
    SENTENCEPIECE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    check_source,
    read_tokenizer,
    refuse_without_safetensors,
    refuse_without_tokenizer,
)
from components.kfp_io import StepError

# Weights lie at the top of a repository; deeper safetensors are other formats or other models.
_WANTED = (
    CONFIG, TOKENIZER, SENTENCEPIECE, TOKENIZER_CONFIG, WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors",
)  # fmt: skip


def wanted_files(source: str, names: Sequence[str]) -> list[str]:
    """Return which of a repository's files to download. Raises StepError if there are no safetensors or no tokenizer.

    Standard library only: the host asks before anything starts.
    """
    wanted = [file for file in names if "/" not in file and any(fnmatch.fnmatchcase(file, one) for one in _WANTED)]
    if not any(file.endswith(".safetensors") for file in wanted):
        refuse_without_safetensors(source, list(names))
    if TOKENIZER not in wanted and SENTENCEPIECE not in wanted:
        refuse_without_tokenizer(source)
    return wanted


def fetch(name: str, revision: str, target: Path) -> dict[str, Any]:
    """Download backbone `name` at `revision` into `target`; return the facts for its manifest.

    The revision recorded is the commit that `revision` pointed to. Raises StepError (one line) for a name that is not a
    Hub name, no network, an unknown repository or revision, no access, pickle-only weights and custom code.
    """
    if registry.is_builtin(name):
        raise StepError(f"backbone {name!r} is built in and is not fetched")
    if not registry.looks_like_hub_name(name):
        raise StepError(f"{name!r} is not the name of a Hub model", hint=registry.hint_for(name))
    info = _repository(name, revision)
    wanted = wanted_files(f"{name}@{revision}", [sibling.rfilename for sibling in info.siblings or []])
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as made:
        folder = Path(made)
        _download(name, info.sha, wanted, folder)
        files = check_source(folder, f"{name}@{revision}")
        (target / TOKENIZER).write_text(read_tokenizer(folder), encoding="utf-8")
        for file in files:
            shutil.move(folder / file, target / file)
    card = info.card_data
    licence = card.get("license") if card is not None else None
    return {"name": name, "revision": info.sha, "requested_revision": revision, "source": "hub", "license": licence}


def _repository(name: str, revision: str) -> Any:
    from huggingface_hub import HfApi

    return _reach(name, revision, lambda: HfApi().model_info(name, revision=revision, timeout=30))


def _download(name: str, commit: str, files: list[str], folder: Path) -> None:
    from huggingface_hub import snapshot_download

    _reach(name, commit, lambda: snapshot_download(name, revision=commit, allow_patterns=files, local_dir=folder))


def _reach(name: str, revision: str, call: Any) -> Any:
    """Return `call()`, with the Hub's and the network's errors made one line for people."""
    from huggingface_hub import errors

    try:
        return call()
    except errors.GatedRepoError as error:
        raise StepError(f"Hub model {name} is gated", hint=_OWN) from error
    except errors.RevisionNotFoundError as error:
        raise StepError(f"Hub model {name} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise StepError(
            f"the Hub has no public model {name!r}", hint=f"check the spelling; if it is private, {_OWN}"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(name, error) from error
    except Exception as error:  # the HTTP library's error classes are no part of huggingface_hub's interface
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise _unreachable(name, error) from error
        raise


_OWN = "download it yourself, where you are allowed to, and give its folder as the backbone"


def _unreachable(name: str, error: BaseException) -> StepError:
    reason = str(error).strip().splitlines()
    return StepError(
        f"cannot fetch {name!r} from the Hub: {reason[0] if reason else type(error).__name__}",
        hint="the step needs a network that reaches the Hub (HF_ENDPOINT for a mirror); offline use minilm, or 'local'",
    )
