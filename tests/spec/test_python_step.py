"""The SDK's pip prelude read back."""

from intermodal.spec.python_step import read_prelude

CHECK = """
if ! [ -x "$(command -v pip)" ]; then
    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip
fi

"""
KFP = (
    "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location 'kfp==2.14.3' '--no-deps'"
)
TYPING = """ 'typing-extensions>=3.7.4,<5; python_version<"3.9"' """
MORE = " python3 -m pip install --quiet --no-warn-script-location --index-url https://mine 'pandas>=2' 'requests'  "
REAL = ["sh", "-ec", "run it", "source"]


def command(script: str) -> list[str]:
    return ["sh", "-c", script, *REAL]


def test_the_runtime_alone():
    prelude = read_prelude(command(CHECK + KFP + TYPING + '&& "$0" "$@"\n'))
    assert prelude is not None
    assert (prelude.kfp_version, prelude.packages, list(prelude.command)) == ("2.14.3", (), REAL)


def test_packages_and_their_options_in_order():
    prelude = read_prelude(command(CHECK + KFP + TYPING + " && " + MORE + '&& "$0" "$@"\n'))
    assert prelude is not None
    assert prelude.packages == ("--index-url", "https://mine", "pandas>=2", "requests")


def test_anything_else_is_left_as_it_stands():
    assert read_prelude(["python", "-m", "x"]) is None
    assert read_prelude(["sh", "-c", "pip install kfp==2.14.3", *REAL]) is None
    assert read_prelude(command('echo hello && "$0" "$@"')) is None
    assert read_prelude(command('python3 -m pip install \'git+https://x/kfp\' && "$0" "$@"')) is None
