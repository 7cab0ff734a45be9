defmodule Mix.Tasks.EventSeal.Export do
  @shortdoc "Exports a store as interchange files or archives, one for each flow"
  @moduledoc """
  Exports the flows of the store in a folder as interchange files (FORMAT.md, "Interchange"), or as archives, one file a flow.

      mix event_seal.export --dir DIR --out OUT [--format interchange|archive]

  With archives (FORMAT.md, "Archive") the store's log is written beside them, as `log.leaves`.

  A host that holds the store may go on meanwhile. A file's name is the flow's id with all but a–z, 0–9, `-` and `_`
  written as `%xx`; where that gets too long, its beginning, `~` and the id's SHA-256.

  Exit status: 0 exported, 2 could not run.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Without Mix: `EventSeal.Command.export/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.export(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
