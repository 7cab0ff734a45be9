defmodule Mix.Tasks.EventSeal.Import do
  @shortdoc "Imports events from JSON Lines files into a store on disk"
  @moduledoc """
  Imports events from files of the import form (FORMAT.md, "Import") into the store in a folder.

      mix event_seal.import --dir DIR [--suite sha256|blake3] [--skip-bad] FILE…

  All files are checked first: if a line is bad, its file, number, field and rule are shown, and nothing is imported.
  `--skip-bad` leaves such lines out and imports the others. A file that was imported before adds nothing; an interrupted
  import is gone on with by running it again. The flows are settled and sealed, and left open. `--suite` is that of flows
  which are new (sha256 unless given). The folder is made if it is not there; no host may hold it meanwhile.

  Archives, `log.leaves` and interchange files, as `mix event_seal.export` writes them, are known by how they begin. They
  are verified first, and then brought back as they are: `EventSeal.Restore`.

  Exit status: 0 imported, 1 bad lines and nothing imported, 2 could not run.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Without Mix: `EventSeal.Command.import/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.import(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
