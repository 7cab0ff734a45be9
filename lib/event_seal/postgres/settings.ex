defmodule EventSeal.Postgres.Settings do
  @moduledoc false
  # Where a server is and who we are there, from a URL as libpq knows it. The password never is in a term: it is asked for
  # by a function, so no log, report of a crash or inspection shows it.

  @defaults [pool: 5, timeout: 15_000, connect_timeout: 5_000, cancel_wait: 5_000, backoff: {100, 10_000}]
  @parameters ~w(application_name options)
  @tls ~w(sslmode sslrootcert sslcert sslkey)
  @modes ~w(disable require verify-ca verify-full)

  @enforce_keys [:host, :port, :user, :database]
  defstruct [:host, :port, :user, :database, :password, :tls, parameters: []] ++ @defaults

  @type t :: %__MODULE__{
          host: String.t(),
          port: 1..65_535,
          user: String.t(),
          database: String.t(),
          password: (() -> String.t()) | nil,
          tls: :disable | {mode :: String.t(), %{optional(String.t()) => Path.t()}},
          parameters: [{String.t(), String.t()}],
          pool: pos_integer,
          timeout: pos_integer,
          connect_timeout: pos_integer,
          cancel_wait: pos_integer,
          backoff: {pos_integer, pos_integer}
        }

  @doc "From options; see `EventSeal.Postgres`. Raises `ArgumentError`, and never shows a value."
  @spec new(keyword) :: t
  def new(opts) do
    {url, opts} = Keyword.pop(opts, :url)
    {password, opts} = Keyword.pop(opts, :password)
    uri = parse(url)

    if match?({_, _}, user(uri)),
      do: raise(ArgumentError, "a password stands in the :url; give it by the option :password")

    {parameters, opts} = Keyword.pop(opts, :parameters, [])
    opts = Keyword.merge(@defaults, opts)

    for {key, value} <- opts,
        not valid?(key, value),
        do: raise(ArgumentError, "option #{inspect(key)} is unknown or wrong")

    settings = struct!(settings(uri, password(password)), opts)
    %{settings | parameters: settings.parameters ++ for({key, value} <- parameters, do: {"#{key}", "#{value}"})}
  end

  @doc "Takes a parameter out of a URL: its value (nil if it is not there), and the rest."
  @spec take_parameter(String.t(), String.t()) :: {String.t() | nil, String.t()}
  def take_parameter(url, name) do
    uri = parse(url)
    {value, query} = Map.pop(URI.decode_query(uri.query || ""), name)
    {value, URI.to_string(%{uri | query: if(query != %{}, do: URI.encode_query(query))})}
  end

  @doc "A URL without the password that stands in it, and that as a function; nil if there is none."
  @spec part(String.t()) :: {String.t(), (() -> String.t()) | nil}
  def part(url) do
    uri = parse(url)

    case user(uri) do
      {user, password} -> {URI.to_string(%{uri | userinfo: URI.encode_www_form(user)}), fn -> password end}
      _user -> {url, nil}
    end
  end

  @doc "A URL as it may be shown."
  @spec shown(String.t()) :: String.t()
  def shown(url), do: url |> part() |> elem(0)

  @doc "Whether this is the URL of a PostgreSQL database."
  @spec url?(String.t()) :: boolean
  def url?(text), do: String.starts_with?(text, ["postgres://", "postgresql://"])

  defp parse(url) do
    with true <- is_binary(url) and url?(url), {:ok, uri} <- URI.new(url) do
      uri
    else
      _other -> raise ArgumentError, "option :url must be postgres://USER@HOST:PORT/DATABASE"
    end
  end

  defp user(%{userinfo: nil}), do: nil

  defp user(%{userinfo: info}) do
    case String.split(info, ":", parts: 2) do
      [user, password] -> {URI.decode(user), URI.decode(password)}
      [user] -> URI.decode(user)
    end
  end

  defp settings(uri, password) do
    query = URI.decode_query(uri.query || "")
    known = ["host", "user" | @parameters ++ @tls]
    for {key, _value} <- query, key not in known, do: raise(ArgumentError, "parameter #{key} of the :url is not known")
    host = query["host"] || blank(uri.host) || "localhost"
    user = user(uri) || query["user"] || raise(ArgumentError, "the :url names no user")

    %__MODULE__{
      host: host,
      port: uri.port || 5432,
      user: user,
      database: database(uri.path) || user,
      password: password,
      tls: tls(host, query),
      parameters: for({key, value} <- query, key in @parameters, do: {key, value})
    }
  end

  defp blank(""), do: nil
  defp blank(text), do: text && URI.decode(text)

  defp database("/" <> name) when name != "", do: URI.decode(name)
  defp database(_none), do: nil

  # A socket in the file system leaves this machine nowhere.
  defp tls("/" <> _, _query), do: :disable

  defp tls(_host, query) do
    mode = Map.get(query, "sslmode", "verify-full")
    if mode not in @modes, do: raise(ArgumentError, "sslmode must be one of #{Enum.join(@modes, ", ")}")
    if mode == "disable", do: :disable, else: {mode, Map.take(query, @tls -- ["sslmode"])}
  end

  defp password(nil), do: if(System.get_env("PGPASSWORD"), do: fn -> System.get_env("PGPASSWORD") end)
  defp password({:env, name}) when is_binary(name), do: fn -> System.fetch_env!(name) end
  defp password(fun) when is_function(fun, 0), do: fun
  defp password(_text), do: raise(ArgumentError, "option :password must be a function of no argument, or {:env, name}")

  defp valid?(:backoff, {least, most}), do: positive?(least) and positive?(most) and least <= most
  defp valid?(key, value) when key in [:pool, :timeout, :connect_timeout, :cancel_wait], do: positive?(value)
  defp valid?(_key, _value), do: false

  defp positive?(value), do: is_integer(value) and value > 0
end
