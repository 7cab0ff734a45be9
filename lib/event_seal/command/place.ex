defmodule EventSeal.Command.Place do
  @moduledoc false
  # Where a store is, as the switches name it: a folder by --dir (and --archive), or a database by --store, which is held
  # under :dir as well, its password apart: that goes into no message.

  alias EventSeal.{Error, Postgres, Store}

  @doc "The switches of a command that takes a store, and its usage."
  @spec switches(keyword) :: keyword
  def switches(switches), do: if(switches[:dir], do: [store: :string] ++ switches, else: switches)

  @spec usage(String.t()) :: String.t()
  def usage(text),
    do: String.replace(text, "--dir DIR [--archive DIR]", "(--dir DIR [--archive DIR] | --store postgres://…)")

  @doc "The parsed switches with the database, if one is named, under :dir."
  @spec named(map) :: {:ok, map} | :usage
  def named(%{store: url} = opts) do
    if Postgres.Settings.url?(url) and not is_map_key(opts, :dir) and not is_map_key(opts, :archive) do
      {url, password} = Postgres.Settings.part(url)
      {:ok, opts |> Map.delete(:store) |> Map.merge(%{dir: url, password: password})}
    else
      :usage
    end
  end

  def named(opts), do: {:ok, opts}

  @doc "The options of the store at a place."
  @spec at(String.t()) :: keyword
  def at(place) do
    case named(%{store: place}) do
      {:ok, opts} -> of(opts)
      :usage -> [dir: place]
    end
  end

  @doc "The options of a store among the switches."
  @spec of(map) :: keyword
  def of(opts), do: for({key, value} <- opts, key in [:dir, :archive, :password], value != nil, do: {key, value})

  @doc "Whether a place is a database."
  @spec database?(keyword) :: boolean
  def database?(place), do: Postgres.Settings.url?(place[:dir])

  @doc "Its adapter, with the options to open it with; a folder's mode has no meaning for a database."
  @spec adapter(keyword, keyword) :: {:ok, {module, keyword}} | {:error, Error.t()}
  def adapter(place, opts \\ []) do
    if database?(place),
      do: database(place, opts[:mode]),
      else: {:ok, {Store.Disk, place ++ opts}}
  end

  defp database(_place, :examine),
    do: {:error, Error.new(:invalid, field: :store, rule: "must be a folder: a database is no file to be examined")}

  defp database(place, mode) do
    opts = [url: place[:dir], pool: 2] ++ Keyword.take(place, [:password])
    opts = if mode == :read, do: [sweep: :infinity] ++ opts, else: opts
    # Looked at here, so that a wrong URL is said and not raised.
    Store.Postgres.child_spec({__MODULE__, opts})
    {:ok, {Store.Postgres, opts}}
  rescue
    error in ArgumentError -> {:error, Error.new(:invalid, field: :store, rule: error.message)}
  end
end
