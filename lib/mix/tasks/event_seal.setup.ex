defmodule Mix.Tasks.EventSeal.Setup do
  @shortdoc "Makes the tables of a store in PostgreSQL"
  @moduledoc """
  Makes the tables of a store in PostgreSQL, or brings them to this version.

      mix event_seal.setup --store postgres://USER@HOST/DATABASE [--print | --check]

  With `--print` nothing is done: the SQL is printed, to be read, or to be run by somebody else. It asks for a role that may
  make a schema and roles; the tables will be its own. A host's login then needs no more than

      GRANT event_seal_writer TO …

  With `--check` nothing is done, either, and a role that reads is enough: it says whether triggers, keys, rights and functions are as
  they were made, as `mix event_seal.verify` does, and whether every row's generated columns are what its bytes say. For that all
  rows are read.

  The password is taken from `PGPASSWORD`, so that it does not stand on the command line. `schema=NAME` in the URL names another
  schema than `event_seal`, and other roles: `NAME_writer`; see `EventSeal.Store.Postgres`.

  Exit status: 0 done, 1 faults found (`--check`), 2 could not run.

  Without Mix: `EventSeal.Command.setup/1`, `EventSeal.Store.Postgres.setup/1`, `EventSeal.Store.Postgres.check/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.setup(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
