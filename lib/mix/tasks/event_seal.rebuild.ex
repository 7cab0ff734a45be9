defmodule Mix.Tasks.EventSeal.Rebuild do
  @shortdoc "Makes a new verification store of a store"
  @moduledoc """
  Makes a new verification store of a store, where the old one was lost or cut, or where there was none.

      mix event_seal.rebuild --dir DIR --verification NEW [--archive DIR] [--out DIR] [--checkpoint FILE --key KEY…]
      mix event_seal.rebuild --store postgres://… --verification postgres://… --out DIR [--checkpoint FILE --key KEY…]

  NEW must not be there yet, or be empty; of a database the tables must be there (`mix event_seal.setup`). The store is
  verified first; if it is at fault, nothing is done. Give it the last checkpoint that was kept elsewhere, with the
  log's verifier key: without it a store that was written anew together with its log would be believed.

  That it was done is put on record in the log, with a leaf for each flow; `report.txt` keeps what the leaves say, in
  `NEW/rebuild` or in the folder `--out`. See `EventSeal.Rebuild`. Stop the host first.

  Exit status: 0 made, 1 faults found, 2 could not run.

  Without Mix: `EventSeal.Command.rebuild/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.rebuild(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
