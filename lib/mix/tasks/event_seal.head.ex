defmodule Mix.Tasks.EventSeal.Head do
  @shortdoc "Writes the heads of a store's flows to a file to be kept elsewhere"
  @moduledoc """
  Writes the head of every flow of the store in a folder to a small file: genesis digest, last position, last block.

      mix event_seal.head --dir DIR --out FILE

  Keep it where whoever can write to DIR cannot: `mix event_seal.verify --dir DIR --head FILE` then recognises a store that
  was rolled back. A host that holds the store may go on meanwhile. No flow is named in it, and no body is; see
  `EventSeal.Heads`.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Exit status: 0 written, 2 could not run.

  Without Mix: `EventSeal.Command.head/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.head(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
