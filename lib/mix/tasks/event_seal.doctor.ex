defmodule Mix.Tasks.EventSeal.Doctor do
  @shortdoc "Says what is damaged in a store, and saves what can be saved"
  @moduledoc """
  Says what is wrong with a store on disk, and saves what can be saved into a new folder. The store itself is not touched.

      mix event_seal.doctor --dir DIR [--verification DIR|URL]
      mix event_seal.doctor --dir DIR [--verification DIR|URL] --out NEW

  NEW must not be there yet, or be empty. It becomes a store that a host can open. Beside it, in `NEW/doctor`, stand
  `report.txt`, with the verdict, a fact a line, and what is intact but follows from nothing that was saved: `.blocks` and
  `.jsonl` files for `mix event_seal.verify --file`, `.damaged` ones with blocks that are hit themselves. Flows are named by
  their genesis digests; see `EventSeal.Doctor`.

  With `--verification`, the store's verification store, blocks whose digests were hit take them from there, and so does a log
  that is lost or damaged.

  Stop the host first: what it writes meanwhile is not examined.

  Exit status: 0 healthy, 1 damage or faults found, whether saved or not, 2 could not run.

  Without Mix: `EventSeal.Command.doctor/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.doctor(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
