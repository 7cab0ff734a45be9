defmodule Mix.Tasks.EventSeal.Migrate do
  @shortdoc "Moves a store to another: a folder or a database"
  @moduledoc """
  Moves everything from one store to another, each a folder or the URL of a database.

      mix event_seal.migrate --from data --to postgres://USER@HOST/DATABASE

  Every id, block hash and the log's root stay the same. Nobody may write to either of them meanwhile. Broken off, it goes on
  where it was when it is run again; at the end the new store is verified. Sign nothing with it before. In a database
  `mix event_seal.setup` makes the tables first. See `EventSeal.Migrate`.

  Exit status: 0 moved and verified, 1 faults found in the new store, 2 could not run.

  Without Mix: `EventSeal.Command.migrate/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.migrate(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
