defmodule Mix.Tasks.EventSeal.Prove do
  @shortdoc "Writes the proof of one event"
  @moduledoc """
  Writes the proof that an event stands at its position of its flow, for whoever has the log's verifier key.

      mix event_seal.prove --dir DIR [--archive DIR] --flow FLOW --n N [--disclose] --out FILE

  The event must be fixed, and its block covered by a checkpoint. With `--disclose` the proof shows the body. A host that
  holds the store may go on meanwhile. `EventSeal.Proof.verify/2` and `event-seal verify` check it.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Exit status: 0 written, 2 could not run.

  Without Mix: `EventSeal.Command.prove/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.prove(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
