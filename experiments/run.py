"""Does the runs of the paper's tables and figures, and goes on with them where they stopped.

    python -m experiments.run table_3 table_4 --scale tiny --seeds 5 --jobs 2
    python -m experiments.run all --scale smoke
    python -m experiments.run all --list
    python -m experiments.render

A run is one training, or one evaluation of a trained model under other conditions; a row of a table has one a seed.
What two tables share runs once. Of each that is done its scores and every test user's profile are kept in
`--results`/SCALE, under a digest of its flags: started again, the command does what is missing, and goes on with a
training that was killed from its last epoch. Models stay in `--output`/SCALE.
"""

import sys

from experiments.arguments import run_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    run_parser(__doc__).parse_known_args()

from collections.abc import Sequence
from pathlib import Path

from experiments.corpus_tables import keep_corpus_tables
from experiments.execution import Place, RunFailed, do_all, make_corpus, seconds_left, time_left_told
from experiments.plan import all_runs, chosen_tables, read_scale, runs_of
from experiments.results import is_done
from files.output_files import only_run


def main(argv: Sequence[str] | None = None) -> None:
    """Does the runs; tells of each that ends.

    Raises:
        ValueError: if a table is not known, or a corpus is to be named.
        RunFailed: if a run fails.
    """
    arguments = run_parser(__doc__).parse_args(argv)
    scale, tables = read_scale(arguments.scale), chosen_tables(arguments.tables)
    seeds = arguments.seeds or scale.seeds
    output, results = arguments.output / scale.name, arguments.results / scale.name
    runs = all_runs(tables, scale, seeds, arguments.dataset)
    if arguments.list:
        for table in tables:
            print(f"{table.name}: {table.title} ({table.of})")
            for row in table.rows:
                of_row = runs_of(row, scale, seeds, arguments.dataset)
                print(f"  {row.name}: {sum(is_done(results, run) for run in of_row)} of {len(of_row)} runs done")
        left = [run for run in runs if not is_done(results, run)]
        hours = time_left_told(seconds_left(left, results, scale.minutes) / arguments.jobs)
        print(f"{len(runs)} runs, {len(left)} to do: about {hours} h")
        return
    with only_run(output):
        dataset = arguments.dataset or str(make_corpus(scale, output / "data"))
        place = Place(output.resolve(), results, str(Path(dataset).resolve()))
        if not Path(dataset).is_dir():  # of the Hub
            place.dataset = dataset
        keep_corpus_tables(place.dataset, results)
        do_all(runs, place, arguments.jobs, lambda line: print(line, flush=True), scale.minutes)
    print(f"{len(runs)} runs done, kept in {results}: python -m experiments.render --scale {scale.name} shows them")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RunFailed) as error:
        sys.exit(f"experiments.run: {error}")
