"""The SDK's pip prelude read back: from scripts as its versions wrote them, and from what the installed one compiles now."""

from __future__ import annotations

from pathlib import Path

import pytest
from kfp import compiler, dsl

from intermodal.errors import Unsupported
from intermodal.spec.load import load_pipeline
from intermodal.spec.python_step import Install, Prelude, read_prelude
from intermodal.spec.types import Container

CHECK = """
if ! [ -x "$(command -v pip)" ]; then
    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip
fi

"""
QUIET = "PIP_DISABLE_PIP_VERSION_CHECK=1 "
PIP = "python3 -m pip install --quiet --no-warn-script-location "
OLD = "typing-extensions>=3.7.4,<5"
KFP = PIP + f"""'kfp==2.14.3' '--no-deps' '{OLD}; python_version<"3.9"' """
REAL = ["sh", "-ec", "run it", "source"]


def command(script: str) -> list[str]:
    return ["sh", "-c", script, *REAL]


def read(script: str) -> tuple[str, str, tuple[Install, ...]]:
    prelude = read_prelude(command(script + '&& "$0" "$@"\n'))
    assert prelude is not None
    assert list(prelude.command) == REAL
    return prelude.kfp_version, prelude.for_old_python, prelude.installs


def test_the_runtime_alone():
    assert read(CHECK + QUIET + KFP) == ("2.14.3", OLD, ())


def test_packages_before_and_after_the_runtime_with_their_options():
    more = PIP + "--index-url https://mine --trusted-host mine 'pandas>=2' 'requests'  "
    install = Install(("pandas>=2", "requests"), ("--index-url", "https://mine", "--trusted-host", "mine"))
    assert read(CHECK + QUIET + more + " && " + KFP) == ("2.14.3", OLD, (install,))
    assert read(CHECK + QUIET + KFP + " && " + more) == ("2.14.3", OLD, (install,))


def test_packages_without_the_runtime():
    assert read(CHECK + QUIET + PIP + "'pandas' ") == ("", "", (Install(("pandas",)),))
    # A kfp that the user lists is a package like any other, with what it needs.
    assert read(CHECK + QUIET + PIP + "'kfp==2.14.3' 'pandas' ") == ("", "", (Install(("kfp==2.14.3", "pandas")),))


def test_the_form_of_the_first_version():
    both = "(" + QUIET + PIP + "'xgboost==1.1.1' || " + QUIET + PIP + "'xgboost==1.1.1' --user) "
    assert read(both) == ("", "", (Install(("xgboost==1.1.1",)),))


def test_anything_else_is_left_as_it_stands():
    assert read_prelude(["python", "-m", "x"]) is None
    assert read_prelude(["sh", "-c", "pip install kfp==2.14.3", *REAL]) is None
    for script in (
        "echo hello",
        KFP + "&& echo hello",
        PIP + "pandas; rm -rf /tmp/x",
        PIP + "$PACKAGE",
        PIP + "`cat list`",
        PIP + "pandas > log",
        PIP + "'pandas",
    ):
        assert read_prelude(command(script + ' && "$0" "$@"')) is None, script


@pytest.mark.parametrize(
    "word",
    [
        "git+https://github.com/x/y",
        "y @ git+https://github.com/x/y@main",
        "https://host/y-1.0.tar.gz",
        "./wheels/y.whl",
        "/wheels/y-1.0-py3-none-any.whl",
        "y-1.0-py3-none-any.whl",
        "file:///wheels/y.whl",
        "y @ file:///wheels/y.whl",
        ".",
        "-r",
        "--editable=.",
        "--target=/tmp",
        "-e",
    ],
)
def test_what_needs_the_network_or_the_image_is_refused_by_name(word: str):
    with pytest.raises(Unsupported) as caught:
        read_prelude(command(f'{QUIET}{PIP}\'{word}\' && "$0" "$@"'))
    assert repr(word) in caught.value.message
    assert caught.value.hint


def test_a_wheel_at_an_address_is_a_requirement():
    wheel = "y @ https://host/y-1.0-py3-none-any.whl"
    assert read(f"{PIP}'{wheel}' ") == ("", "", (Install((wheel,)),))


# What the installed SDK compiles


def compiled(tmp_path: Path, **options: object) -> Prelude | None:
    @dsl.component(**options)
    def component():
        pass

    path = tmp_path / "c.yaml"
    compiler.Compiler().compile(component, str(path))
    [container] = [
        item.implementation
        for item in load_pipeline(path).components.values()
        if isinstance(item.implementation, Container)
    ]
    return container.prelude


def test_the_sdk_of_today(tmp_path: Path):
    import kfp

    plain = compiled(tmp_path)
    assert plain is not None
    assert (plain.kfp_version, plain.installs) == (kfp.__version__, ())
    rich = compiled(
        tmp_path,
        packages_to_install=["pandas>=2", 'tomli; python_version<"3.11"', "x; sys_platform=='linux'"],
        pip_index_urls=["https://one/simple", "https://two/simple"],
        pip_trusted_hosts=["one"],
        use_venv=True,
    )
    assert rich is not None
    assert rich.kfp_version == kfp.__version__
    assert rich.installs == (
        Install(
            ("pandas>=2", 'tomli; python_version<"3.11"', "x; sys_platform=='linux'"),
            ("--index-url", "https://one/simple", "--extra-index-url", "https://two/simple", "--trusted-host", "one"),
        ),
    )
    alone = compiled(tmp_path, packages_to_install=["pandas"], install_kfp_package=False)
    assert alone is not None
    assert (alone.kfp_version, alone.installs) == ("", (Install(("pandas",)),))
    assert compiled(tmp_path, install_kfp_package=False) is None
    assert compiled(tmp_path, target_image="mine:1", packages_to_install=[]) is None
    wheel = "https://host/kfp-2.14.3-py3-none-any.whl"
    other = compiled(tmp_path, kfp_package_path=wheel)
    assert other is not None
    assert (other.kfp_version, other.installs) == ("", (Install((wheel,)),))


def test_a_refusal_names_the_component(tmp_path: Path):
    with pytest.raises(
        Unsupported, match=r"component comp-component: requirement 'git\+https://h/kfp' is not supported"
    ):
        compiled(tmp_path, kfp_package_path="git+https://h/kfp")
