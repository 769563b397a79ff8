"""What is run before a change lands: `nox` runs tests, lint, types and docs; `nox -s bench` measures."""

import nox

nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session) -> None:
    """The tested versions and the project itself, from its source."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "develop"))
    session.install("--no-deps", "-e", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, but for the tests marked long."""
    install(session)
    session.run("pytest", "-n", "auto", *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
def tests_long(session: nox.Session) -> None:
    """The tests marked long: real trainings under the null, killed and resumed runs."""
    install(session)
    session.run("pytest", "-m", "long", "-n", "auto", *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """The test suite on the oldest versions that the package asks for; these warn of each other."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lowest"))
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-n", "auto", "-o", "filterwarnings=ignore", *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's lint and format."""
    session.install(*[name for name in nox.project.dependency_groups(PYPROJECT, "develop") if "ruff" in name])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict, over the package."""
    install(session)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into site/; a broken link or an unknown name is an error. `nox -s docs -- serve` shows it."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "docs"))
    command = session.posargs or ["build", "--strict"]  # --quiet would also silence what --strict counts
    session.run("mkdocs", *command, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory against plain implementations; results go to tests/bench/results."""
    install(session)
    session.run("python", "-m", "tests.bench", *session.posargs)
