defmodule Mix.Tasks.EventSeal.Keygen do
  @shortdoc "Makes a key that signs checkpoints, or receipts"
  @moduledoc """
  Makes a key that signs checkpoints, or receipts, in a file of mode 0600 that must not be there yet, and prints the key
  that verifies.

      mix event_seal.keygen --name clinic.example/log --out log.key
      mix event_seal.keygen --name clinic.example/witness --witness --out witness.key
      mix event_seal.keygen --name clinic.example/receipts --receipts --out receipts.key

  The name of a log's key is the log's origin: a host name of yours and a path, without a scheme. Give the printed key to
  all who verify. A host signs with `checkpoints: [signer: {EventSeal.Signer.File, "log.key"}]`, and likewise with
  `receipts: [signer: {EventSeal.Signer.File, "receipts.key"}]`.

  Exit status: 0 written, 2 could not run.

  Without Mix: `EventSeal.Command.keygen/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.keygen(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
