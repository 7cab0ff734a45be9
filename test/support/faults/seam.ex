defmodule EventSeal.Faults.Seam do
  @moduledoc false
  # The client of EventSeal.Store.Postgres under faults: each call is an operation that EventSeal.FaultyFiles may strike.
  @behaviour EventSeal.Postgres

  alias EventSeal.{FaultyFiles, Postgres}

  @kinds [commit: "SELECT begin_commit", settle: "SELECT settle", take: "SELECT take", sweep: "SELECT sweep"]

  @doc "The kinds of calls."
  def kinds, do: [:read, :other | Keyword.keys(@kinds)]

  @impl true
  def child_spec(given), do: Postgres.child_spec(given)

  @impl true
  def run(name, statements, opts) do
    FaultyFiles.run(kind(statements, opts), "", fn _moment -> Postgres.run(name, statements, opts) end)
  end

  defp kind([{sql, _values} | _], opts) do
    if opts[:snapshot], do: :read, else: Enum.find_value(@kinds, :other, fn {kind, text} -> sql =~ text && kind end)
  end
end
