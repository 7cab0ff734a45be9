defmodule Mix.Tasks.EventSeal.Checkpoint do
  @shortdoc "Writes a store's last checkpoint to a file to be kept elsewhere"
  @moduledoc """
  Writes the last checkpoint that was signed over a store in a folder to a file.

      mix event_seal.checkpoint --dir DIR [--archive DIR] --out FILE

  Keep it where whoever can write to DIR cannot. A host that holds the store may go on meanwhile; it is the host that signs
  (`EventSeal.checkpoint/1`, or by itself).

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Exit status: 0 written, 2 could not run.

  Without Mix: `EventSeal.Command.checkpoint/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.checkpoint(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
