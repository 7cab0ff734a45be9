defmodule EventSeal.Store.Postgres.Client do
  @moduledoc false
  # The client that a store asks, whichever it is, and what its errors mean for the store's callers.

  alias EventSeal.{Error, Postgres}

  @enforce_keys [:module, :name, :schema]
  defstruct @enforce_keys

  @type t :: %__MODULE__{module: module, name: atom, schema: String.t()}

  @spec run(t, [Postgres.statement()], [Postgres.option()]) :: {:ok, [Postgres.result()]} | {:error, Postgres.Error.t()}
  def run(%__MODULE__{module: module, name: name}, statements, opts), do: module.run(name, statements, opts)

  @doc "Reads, all of one moment."
  @spec read(t, [Postgres.statement()]) :: {:ok, [[[term]]]} | {:error, Error.t()}
  def read(client, statements) do
    case run(client, statements, snapshot: true) do
      {:ok, results} -> {:ok, Enum.map(results, & &1.rows)}
      {:error, error} -> {:error, storage(error)}
    end
  end

  # Not reached, starting, ending, no room, an error of its disk; given up, waited too long; read-only until it is a primary
  # again.
  @passing ["08", "57", "53", "58", "40", "55P03", "25006"]

  @doc "Whether it may be otherwise in a moment, without anybody having to mend what we ask."
  @spec passing?(Postgres.Error.t()) :: boolean
  def passing?(%Postgres.Error{code: code}), do: String.starts_with?(code, @passing)

  @spec storage(Postgres.Error.t()) :: Error.t()
  def storage(error), do: Error.new(:storage, detail: Exception.message(error))
end
