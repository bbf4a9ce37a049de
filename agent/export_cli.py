"""`segwright export`: a campaign's report, or its trials, in the format that somebody needs."""

from pathlib import Path

import click

from agent.options import CAMPAIGN

KINDS = ("html", "latex", "overleaf", "pdf", "markdown", "crate", "mlflow")
STYLES = ("article", "lncs", "ieee", "elsevier")
STYLED = ("latex", "overleaf")


@click.command()
@CAMPAIGN
@click.option("--format", "kind", type=click.Choice(KINDS), default="html", show_default=True)
@click.option(
    "--pdf-engine", "engine", type=click.Choice(["auto", "typst", "latex"]), default="auto"
)
@click.option("--style", type=click.Choice(STYLES), help="latex, overleaf: else article.")
@click.option("--to", type=click.Path(path_type=Path), help="Target folder; not for mlflow.")
@click.option("--uri", help="mlflow: where it keeps its runs.")
@click.option("--experiment", help="mlflow: name of the experiment; else the campaign's.")
def export(
    campaign: Path,
    kind: str,
    engine: str,
    style: str | None,
    to: Path | None,
    uri: str | None,
    experiment: str | None,
) -> None:
    """Write the report into a folder of your choice, once `check` finds nothing against it.

    html: one file. latex: source, references and figures, for the class of a publisher
    (--style). overleaf: the same as one zip. pdf: by typst, else by pdflatex. markdown: the
    same text. crate: an RO-Crate with networks, environment, facts and logs. mlflow: each
    trial as a run.

    \b
    Example: segwright export liver --format overleaf --style lncs --to paper
    """  # noqa: D301
    from agent.opening import open_store

    is_mlflow = kind == "mlflow"
    if style is not None and kind not in STYLED:
        raise click.UsageError(f"--style is for {' and '.join(STYLED)}; {kind} has no styles")
    if is_mlflow is not (uri is not None) or (to is None) is not is_mlflow:
        raise click.UsageError("--format mlflow needs --uri; every other format needs --to")
    with open_store(campaign, read_only=True) as store:
        if uri is not None:
            from agent.mlflow_runs import log_runs

            logged = log_runs(store, uri, experiment or store.campaign().name)
            made, mended, kept = logged
            click.echo(f"runs: {made} made, {mended} mended, {kept} there already")
            return
    from agent.export import export_report

    assert to is not None
    written = export_report(campaign, kind, to, engine=engine, style=style)
    click.echo("\n".join(str(path) for path in written))
