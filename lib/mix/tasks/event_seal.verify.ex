defmodule Mix.Tasks.EventSeal.Verify do
  @shortdoc "Verifies a store on disk, or interchange files"
  @moduledoc """
  Verifies that nothing was changed: every flow of the store in a folder, or interchange files without any store.

      mix event_seal.verify --dir DIR [--head FILE]
      mix event_seal.verify --file FILE…

  With `--head`, a file that `mix event_seal.head` wrote earlier, a store that has lost since what it had then is recognised
  as rolled back. `--file` also takes the `.blocks` files of `mix event_seal.doctor`.

  Reports what was verified, and each fault: flow, position, class, and what is recorded beside what was recomputed
  (`EventSeal.Fault`). A host that holds the store may go on meanwhile.

  Exit status: 0 all verified, 1 faults found, 2 could not run.

  Without Mix: `EventSeal.Command.verify/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.verify(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
