defmodule Mix.Tasks.EventSeal.Report do
  @shortdoc "Writes a page that says what a store holds and whether it is as it was sealed"
  @moduledoc """
  Verifies a store, or one flow of it, and writes what was found as one HTML file, which needs no network and no script: to
  look at, on paper or on a phone.

      mix event_seal.report --dir DIR [--audit FILE] --out report.html
      mix event_seal.report --dir DIR --flow FLOW [--bodies] [--audit FILE] --out flow.html

  Of the whole store: the verdict in words, each fault with what is recorded beside what was recomputed, the checkpoint, and
  the flows, those with faults first. Of one flow: its timeline, with stages, blocks and checkpoint, and each fault at its
  event or block; of a long flow the newest 2,000 events and all with a fault. Bodies are left out unless `--bodies` is given.
  With `--audit`, the file of the option `:audit`, how far the audit has come.

  The page names flows, places and whoever acted: keep it as you keep the store. A file that is there is not written over.

  A host that holds the store may go on meanwhile. Exit status: 0 all verified, 1 faults found, 2 could not run.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Without Mix: `EventSeal.Command.report/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.report(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
