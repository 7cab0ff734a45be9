defmodule EventSeal.Postgres.Session do
  @moduledoc false
  # A connection that has been let in, as pure state: jobs in, bytes out; messages in, an outcome out.
  #
  # A job is one of
  #
  #   * statements, sent behind each other and answered in one turn; one of them failing undoes all (the server takes them as
  #     one transaction). What is asked for the first time is parsed, and kept under a name of its own from then on
  #   * a script: texts of SQL, which may hold many statements and say themselves what a transaction is
  #   * rows for a COPY … FROM STDIN, or those of a COPY … TO STDOUT
  #
  # Its outcome is a list of `{types, rows, count}`, rows still packed.

  alias EventSeal.Postgres.{Error, Message, Value}

  # More are parsed each time anew: what is kept costs memory here and there.
  @most_prepared 256

  defstruct parameters: %{}, key: nil, prepared: %{}, named: 0, steps: [], results: [], error: nil

  @type statement :: {sql :: iodata, oids :: [pos_integer], parameters :: binary}
  @type job :: {:statements, [statement]} | {:script, iodata} | {:copy_in, iodata, iodata} | {:copy_out, iodata}
  @type outcome :: {:ok, [{[Value.type() | :void | non_neg_integer], [binary], non_neg_integer}]} | {:error, Error.t()}
  @opaque t :: %__MODULE__{}

  @doc "What a server says of itself at any time."
  @spec note(t, Message.t()) :: t
  def note(session, {:key, pid, secret}), do: %{session | key: {pid, secret}}
  def note(session, {:parameter, name, value}), do: put_in(session.parameters[name], value)

  @doc "What a request to cancel this session's work has to say, nil if the server told nothing."
  @spec key(t) :: {non_neg_integer, binary} | nil
  def key(session), do: session.key

  @doc "The bytes that ask for a job."
  @spec ask(t, job) :: {iodata, t}
  def ask(session, {:statements, statements}) do
    {bytes, {session, steps}} = Enum.map_reduce(statements, {session, []}, &statement/2)
    {[bytes | Message.sync()], begin(session, Enum.reverse([:ready | steps]))}
  end

  def ask(session, {:script, sql}), do: {Message.query(sql), begin(session, [:script])}
  def ask(session, {:copy_out, sql}), do: {Message.query(sql), begin(session, [:copy_out, :ready])}

  # The data follows at once: a server that does not want it throws it away.
  def ask(session, {:copy_in, sql, data}) do
    chunks = for chunk <- chunks(IO.iodata_to_binary(data)), do: Message.copy_data(chunk)
    {[Message.query(sql), chunks | Message.copy_done()], begin(session, [:copy_in, {:rows, []}, :ready])}
  end

  @chunk 1_048_576
  defp chunks(<<chunk::binary-size(@chunk), rest::binary>>), do: [chunk | chunks(rest)]
  defp chunks(rest), do: [rest]

  defp begin(session, steps), do: %{session | steps: steps, results: [], error: nil}

  defp statement({sql, oids, parameters}, {session, steps}) do
    key = {sql, oids}

    case session.prepared do
      %{^key => {name, types}} ->
        {run(name, parameters), {session, [{:rows, types}, :bound | steps]}}

      prepared ->
        {name, session} = name(session, map_size(prepared))
        bytes = [Message.parse(name, sql, oids), Message.describe(name) | run(name, parameters)]
        {bytes, {session, [:rows, :bound, {:described, key, name}, :parameters, :parsed | steps]}}
    end
  end

  defp run(name, parameters), do: [Message.bind(name, parameters) | Message.execute()]

  # A name is used once, whatever becomes of it.
  defp name(session, prepared) when prepared >= @most_prepared, do: {"", session}
  defp name(session, _prepared), do: {"s#{session.named}", %{session | named: session.named + 1}}

  @doc "Takes a message: goes on, has the outcome (and whether a transaction was left open), or is no use any more."
  @spec take(t, Message.t()) :: {:more, t} | {:done, outcome, :idle | :open, t} | {:broken, Error.t()}
  def take(session, {:notice, _fields}), do: {:more, session}
  def take(session, :notification), do: {:more, session}

  def take(session, {:parameter, "client_encoding", other}) when other != "UTF8" do
    {:broken, lost(session, "the encoding was changed to #{String.slice(other, 0, 40)}")}
  end

  def take(session, {:parameter, _, _} = parameter), do: {:more, note(session, parameter)}

  def take(session, {:error, fields}) do
    case {Error.from_fields(fields), session.steps} do
      {%{severity: severity} = error, _steps} when severity in ["FATAL", "PANIC"] -> {:broken, last(session, error)}
      {_error, []} -> {:broken, broken(session)}
      {error, _steps} -> {:more, %{session | steps: [:ready], error: session.error || error}}
    end
  end

  def take(%{steps: [:ready]} = session, {:ready, status}), do: done(session, status)
  def take(%{steps: [:script]} = session, {:ready, status}), do: done(session, status)

  def take(%{steps: [:script]} = session, message) when elem(message, 0) in [:columns, :row, :complete],
    do: {:more, session}

  def take(%{steps: [:script]} = session, :empty), do: {:more, session}
  def take(%{steps: [step | steps]} = session, message), do: step(step, message, %{session | steps: steps})
  def take(%{steps: []} = session, _message), do: {:broken, broken(session)}

  defp step(:parsed, :parsed, session), do: {:more, session}
  defp step(:parameters, :parameters, session), do: {:more, session}
  defp step({:described, key, name}, :no_data, session), do: {:more, described(session, key, name, [])}

  defp step({:described, key, name}, {:columns, oids}, session),
    do: {:more, described(session, key, name, Enum.map(oids, &Value.type/1))}

  defp step(:bound, :bound, session), do: {:more, session}
  defp step({:rows, types}, message, session), do: rows(message, types, [], session)
  defp step({:rows, types, rows}, message, session), do: rows(message, types, rows, session)
  defp step(:copy_in, {:copy_in, :binary}, session), do: {:more, session}
  defp step(:copy_out, {:copy_out, :binary}, session), do: {:more, push({:copied, []}, session)}
  defp step({:copied, data}, {:copy_data, more}, session), do: {:more, push({:copied, [data | more]}, session)}
  defp step({:copied, data}, :copy_done, session), do: {:more, push({:rows, [], [IO.iodata_to_binary(data)]}, session)}
  defp step(_step, _message, session), do: {:broken, broken(session)}

  defp rows({:row, row}, types, rows, session), do: {:more, push({:rows, types, [row | rows]}, session)}
  defp rows({:complete, tag}, types, rows, session), do: {:more, result(session, types, rows, count(tag))}
  defp rows(:empty, types, rows, session), do: {:more, result(session, types, rows, 0)}
  defp rows(_message, _types, _rows, session), do: {:broken, broken(session)}

  defp push(step, session), do: %{session | steps: [step | session.steps]}

  defp result(session, types, rows, count),
    do: %{session | results: [{types, Enum.reverse(rows), count} | session.results]}

  defp described(session, key, name, types) do
    session = if name == "", do: session, else: put_in(session.prepared[key], {name, types})
    # What comes behind :bound are rows of these types.
    %{session | steps: List.replace_at(session.steps, 1, {:rows, types})}
  end

  # "INSERT 0 12", "SELECT 3", "COPY 7"; others count nothing.
  defp count(tag) do
    case tag |> String.split() |> List.last("") |> Integer.parse() do
      {count, ""} -> count
      _other -> 0
    end
  end

  defp done(%{error: error} = session, status) do
    outcome = if error, do: {:error, error}, else: {:ok, Enum.reverse(session.results)}
    {:done, outcome, if(status == :idle, do: :idle, else: :open), %{session | steps: [], results: [], error: nil}}
  end

  @doc "What is to be said of the job when the connection is lost: a first error stands, else nobody knows what was done."
  @spec lost(t, String.t()) :: Error.t()
  def lost(%{error: nil, steps: [_ | _]}, why), do: Error.new("08007", why)
  def lost(%{error: nil}, why), do: Error.new("08001", why)
  def lost(%{error: error}, _why), do: error

  # A server that says goodbye when all statements are done may have made them last.
  defp last(%{steps: steps, error: nil}, error) when steps in [[:ready], [:script]],
    do: Error.new("08007", "the server ended the connection (#{error.code}) while a transaction was made to last")

  defp last(session, error), do: session.error || error

  defp broken(session), do: lost(session, "the server breaks the protocol")
end
