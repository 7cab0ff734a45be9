defmodule EventSeal.Postgres.Error do
  @moduledoc """
  What a server refused, or what kept it from being asked: always with its SQLSTATE in `code`.

  The client's own, in the standard's words:

    * `08001` - no connection could be had; nothing was asked
    * `08007` - the connection was lost, or its answer given up, after the question was sent: a change may have been made or not
    * `08P01` - the server does not speak the protocol as it is written
    * `28000` - it asks for another proof of who we are than SCRAM-SHA-256, or does not prove by TLS who it is
    * `28P01` - a wrong password, or a server that does not know it
    * `57014` - it took too long and was given up; nothing was changed

  A server's message may quote the values it was given. So `message/1` leaves out the messages of classes 22 and 23 and every
  detail; what a host wants to show of `text` and `detail` it takes from there.
  """

  @fields [:code, :severity, :text, :detail, :hint, :position, :schema, :table, :column, :constraint]
  @shown [:code, :severity, :schema, :table, :column, :constraint]
  @derive {Inspect, only: @shown}
  @enforce_keys [:code]
  defexception @fields

  @type t :: %__MODULE__{
          code: String.t(),
          severity: String.t() | nil,
          text: String.t() | nil,
          detail: String.t() | nil,
          hint: String.t() | nil,
          position: String.t() | nil,
          schema: String.t() | nil,
          table: String.t() | nil,
          column: String.t() | nil,
          constraint: String.t() | nil
        }

  @keys %{
    ?V => :severity,
    ?C => :code,
    ?M => :text,
    ?D => :detail,
    ?H => :hint,
    ?P => :position,
    ?s => :schema,
    ?t => :table,
    ?c => :column,
    ?n => :constraint
  }

  @doc "An error of the client's own."
  @spec new(String.t(), String.t()) :: t
  def new(<<_::binary-5>> = code, text), do: %__MODULE__{code: code, severity: "ERROR", text: text}

  @doc "From the fields of an ErrorResponse: `{type, text}`."
  @spec from_fields([{byte, binary}]) :: t
  def from_fields(fields) do
    known = for {type, text} <- fields, key = @keys[type], do: {key, text}
    struct(%__MODULE__{code: "XX000"}, known)
  end

  @doc "Whether nothing of what was asked has been done, for certain."
  @spec undone?(t) :: boolean
  def undone?(%__MODULE__{code: code}), do: code not in ["08007", "40003"]

  @impl true
  def message(%__MODULE__{code: <<class::binary-2, _::binary>>} = error) do
    names = for key <- [:schema, :table, :column, :constraint], name = Map.get(error, key), do: "#{key} #{name}"
    said = if class in ["22", "23"], do: [], else: List.wrap(error.text)
    Enum.join(["PostgreSQL #{error.code}" | said ++ names], ", ")
  end
end
