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

  @doc "Whether it may be otherwise in a moment: a server that was not reached, starts, ends, or has no room."
  @spec passing?(Postgres.Error.t()) :: boolean
  def passing?(%Postgres.Error{code: code}), do: String.starts_with?(code, ["08", "57P", "53"])

  @spec storage(Postgres.Error.t()) :: Error.t()
  def storage(error), do: Error.new(:storage, detail: Exception.message(error))
end
