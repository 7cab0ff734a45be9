defmodule EventSeal.Store.Postgres.Migration do
  @moduledoc false
  # The tables, from the files in priv/postgres: each is a version, and runs in a transaction of its own.

  alias EventSeal.Postgres

  @schema "event_seal"
  # Of a role's name, the schema's: there may be others in the same cluster, and they stay apart.
  @own ~r/\bevent_seal(?=_(?:writer|reader|sweeper)\b|\b)/
  @doc "The schema where none is named."
  @spec schema :: String.t()
  def schema, do: @schema

  @doc "Whether a name can be a schema's, and with what comes behind it those of its roles."
  @spec schema?(term) :: boolean
  def schema?(name),
    do: is_binary(name) and name =~ ~r/\A[a-z_][a-z0-9_]{0,54}\z/ and not String.starts_with?(name, "pg_")

  @doc "The last version."
  @spec known :: pos_integer
  def known, do: files() |> List.last() |> elem(0)

  @doc "The SQL that brings a schema from a version to the last."
  @spec sql(String.t(), non_neg_integer) :: [{pos_integer, String.t()}]
  def sql(schema, from \\ 0) do
    for {version, path} <- files(), version > from do
      {version, Regex.replace(@own, File.read!(path), schema)}
    end
  end

  # 001_store.sql is version 1.
  defp files do
    paths = :event_seal |> Application.app_dir("priv/postgres/*.sql") |> Path.wildcard() |> Enum.sort()
    for path <- paths, do: {path |> Path.basename() |> Integer.parse() |> elem(0), path}
  end

  @doc "The version that a schema has, 0 if it is not there."
  @spec applied(module, atom, String.t()) :: {:ok, non_neg_integer} | {:error, Postgres.Error.t()}
  def applied(module, client, schema) do
    case module.run(client, [{"SELECT max(version) FROM #{schema}.migration", []}], []) do
      {:ok, [%{rows: [[version]]}]} -> {:ok, version || 0}
      {:error, %Postgres.Error{code: code}} when code in ["42P01", "3F000"] -> {:ok, 0}
      {:error, _} = error -> error
    end
  end

  @doc "Brings a schema to the last version; the versions that were applied."
  @spec run(atom, String.t()) :: {:ok, [pos_integer]} | {:error, Postgres.Error.t()}
  def run(client, schema) do
    with {:ok, from} <- applied(Postgres, client, schema) do
      Enum.reduce_while(sql(schema, from), {:ok, []}, fn {version, text}, {:ok, done} ->
        case Postgres.script(client, ["BEGIN;\n", text, "\nCOMMIT;"]) do
          :ok -> {:cont, {:ok, done ++ [version]}}
          {:error, _} = error -> {:halt, error}
        end
      end)
    end
  end
end
