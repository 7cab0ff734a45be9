defmodule EventSeal.Postgres.Connection do
  @moduledoc false
  # One connection: it connects, does one job at a time, tells its pool when it is free, and connects anew, waiting longer
  # each time, when it is cut. A job that takes too long, or whose caller is gone, is cancelled; if the server does not
  # answer that either, the connection is given up.

  use GenServer
  require Logger
  alias EventSeal.Postgres.{Error, Handshake, Message, Session, Socket}

  @rollback {:script, "ROLLBACK"}

  # `unread` are the bytes of a message that is not here yet, newest first, and how many it takes: joined once, since
  # a binary that is matched is copied whenever it grows.
  defstruct [:settings, :pool, :socket, :session, :job, :backoff, :said, unread: [], missing: 5]

  @doc false
  def start_link({pool, settings}), do: GenServer.start_link(__MODULE__, {pool, settings})

  @doc "Gives a job to a free connection; `from` gets `{:ok, results}` or `{:error, error}` by `until` (monotonic, ms)."
  @spec ask(pid, GenServer.from(), Session.job(), integer) :: :ok
  def ask(connection, from, job, until), do: GenServer.cast(connection, {:ask, from, job, until})

  @impl true
  def init({pool, settings}) do
    # Parameters are patients' data: they stay out of crash reports, traces and process_info.
    Process.flag(:sensitive, true)
    {:ok, %__MODULE__{settings: settings, pool: pool, backoff: nil}, {:continue, :connect}}
  end

  @impl true
  def handle_continue(:connect, state), do: {:noreply, connect(state)}

  @impl true
  # The pool does not know yet that this connection is cut; nothing was sent.
  def handle_cast({:ask, from, job, until}, %{socket: nil} = state) do
    send(state.pool, {:again, from, job, until})
    {:noreply, state}
  end

  def handle_cast({:ask, from, job, until}, state),
    do: {:noreply, shielded(fn -> ask_server(state, from, job, until) end)}

  @impl true
  def handle_info(:connect, %{socket: nil} = state), do: {:noreply, connect(state)}
  def handle_info(:late, %{job: %{late: false}} = state), do: {:noreply, cancel(state)}

  def handle_info(:late, %{job: %{late: true}} = state),
    do: {:noreply, drop(state, Session.lost(state.session, "no answer in time"))}

  def handle_info({:DOWN, monitor, :process, _, _}, %{job: %{monitor: monitor, late: false}} = state),
    do: {:noreply, cancel(state)}

  def handle_info(message, %{socket: socket} = state) when socket != nil do
    case Socket.read(socket, message) do
      {:data, data} -> {:noreply, shielded(fn -> read(state, data) end)}
      {:closed, reason} -> {:noreply, drop(state, Session.lost(state.session, Socket.reason(reason)))}
      :other -> {:noreply, state}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{socket: nil}), do: :ok

  def terminate(_reason, state) do
    Socket.send(state.socket, Message.terminate())
    Socket.close(state.socket)
  end

  # Elixir names this callback of OTP 25 from 1.17 on.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %{socket: socket, job: job}} -> {:state, %{connected: socket != nil, busy: job != nil}}
      {:log, _} -> {:log, []}
      {key, _} when key in [:message, :state] -> {key, :not_shown}
      other -> other
    end)
  end

  defp ask_server(state, {caller, _tag} = from, job, until) do
    {bytes, session} = Session.ask(state.session, job)
    timer = Process.send_after(self(), :late, max(until - now(), 0))
    state = %{state | session: session, job: %{from: from, monitor: Process.monitor(caller), timer: timer, late: false}}

    case Socket.send(state.socket, bytes) do
      :ok -> state
      {:error, reason} -> drop(state, Session.lost(session, Socket.reason(reason)))
    end
  end

  defp connect(%{settings: settings} = state) do
    until = now() + settings.connect_timeout

    with {:ok, socket} <- Socket.open(settings, until),
         {:ok, session, rest} <- greet(socket, settings, until) do
      if state.said, do: Logger.info("EventSeal is connected to PostgreSQL again")
      free(%{state | socket: socket, session: session, unread: [rest], missing: 5, said: nil, backoff: nil})
    else
      {:error, error} -> later(state, error)
    end
  end

  defp greet(socket, settings, until) do
    {bytes, handshake} = Handshake.first(settings, Socket.end_point(socket))

    case send_greeting(socket, bytes) do
      :ok -> greet(socket, handshake, "", until)
      {:error, _} = error -> error
    end
    |> tap(&if match?({:error, _}, &1), do: Socket.close(socket))
  end

  defp greet(socket, handshake, buffer, until) do
    case Message.decode(buffer, :greeting) do
      {:ok, message, rest} ->
        answer(Handshake.step(handshake, message), socket, rest, until)

      {:more, _bytes} ->
        with({:ok, data} <- more(socket, until), do: greet(socket, handshake, buffer <> data, until))

      :nonsense ->
        {:error, Error.new("08P01", "the server does not speak PostgreSQL's protocol")}
    end
  end

  # Whoever never stops talking is late, too.
  defp more(socket, until) do
    if now() < until, do: Socket.recv(socket, until), else: {:error, Error.new("08001", "greeting: timeout")}
  end

  defp answer({:next, bytes, handshake}, socket, rest, until) do
    with :ok <- send_greeting(socket, bytes), do: greet(socket, handshake, rest, until)
  end

  defp answer({:ready, session}, _socket, rest, _until), do: {:ok, session, rest}
  defp answer({:error, _} = error, _socket, _rest, _until), do: error

  defp send_greeting(_socket, []), do: :ok

  defp send_greeting(socket, bytes) do
    with {:error, reason} <- Socket.send(socket, bytes),
         do: {:error, Error.new("08001", "greeting: #{Socket.reason(reason)}")}
  end

  # The next attempt, some time later, so that many do not come at once; the log says each cause once.
  defp later(%{settings: %{backoff: {least, most}}} = state, error) do
    wait = if state.backoff, do: min(2 * state.backoff, most), else: least
    text = Exception.message(error)
    if text != state.said, do: Logger.warning("EventSeal cannot reach PostgreSQL: #{text}")
    send(state.pool, {:lost, self(), error})
    Process.send_after(self(), :connect, div(wait, 2) + :rand.uniform(wait))
    %{state | socket: nil, session: nil, unread: [], backoff: wait, said: text}
  end

  defp read(state, data) do
    state = %{state | unread: [data | state.unread], missing: state.missing - byte_size(data)}
    if state.missing > 0, do: listen(state), else: go_on(state)
  end

  defp take(state, bytes) do
    case Message.decode(bytes, :session) do
      {:ok, message, rest} -> taken(Session.take(state.session, message), rest, state)
      {:more, length} -> listen(%{state | unread: [bytes], missing: length - byte_size(bytes)})
      :nonsense -> drop(state, Session.lost(state.session, "the server breaks the protocol"))
    end
  end

  defp taken({:more, session}, rest, state), do: take(%{state | session: session}, rest)
  defp taken({:broken, error}, _rest, state), do: drop(state, error)

  # Behind the end of an answer nothing stands but what comes unasked.
  defp taken({:done, outcome, left, session}, rest, state),
    do: done(outcome, left, %{state | session: session, unread: [rest], missing: 5 - byte_size(rest)})

  defp done(outcome, left, state) do
    anew? = spoiled?(outcome) or state.job.late
    state = reply(state, outcome)

    cond do
      anew? -> renew(state)
      left == :idle -> free(state)
      true -> undo(state)
    end
  end

  # The server does not know the names of statements any more, or plans them for other tables.
  defp spoiled?({:error, %Error{code: code}}), do: code in ["26000", "0A000", "42P05"]
  defp spoiled?(_outcome), do: false

  # Nor may a request to cancel meet a job that comes later.
  defp renew(state) do
    Socket.send(state.socket, Message.terminate())
    Socket.close(state.socket)
    connect(%{state | socket: nil})
  end

  # Whoever left a transaction open does not have the next one find it.
  defp undo(%{settings: settings} = state) do
    {bytes, session} = Session.ask(state.session, @rollback)
    timer = Process.send_after(self(), :late, settings.cancel_wait)
    state = %{state | session: session, job: %{from: nil, monitor: nil, timer: timer, late: false}}
    if Socket.send(state.socket, bytes) == :ok, do: go_on(state), else: drop(state, Error.new("08001", "lost"))
  end

  defp free(state) do
    state = go_on(state)
    if state.socket, do: send(state.pool, {:free, self()})
    state
  end

  # With what has been read already.
  defp go_on(state), do: take(state, state.unread |> Enum.reverse() |> IO.iodata_to_binary())

  defp listen(state) do
    case Socket.listen(state.socket) do
      :ok -> state
      {:error, reason} -> drop(state, Session.lost(state.session, Socket.reason(reason)))
    end
  end

  defp drop(%{socket: socket} = state, error) do
    Socket.close(socket)
    later(reply(state, {:error, error}), error)
  end

  defp reply(%{job: nil} = state, _outcome), do: state

  defp reply(%{job: job} = state, outcome) do
    Process.cancel_timer(job.timer)
    if job.monitor, do: Process.demonitor(job.monitor, [:flush])
    if job.from, do: GenServer.reply(job.from, outcome)
    receive(do: (:late -> :ok), after: (0 -> :ok))
    %{state | job: nil}
  end

  # The request goes over a connection of its own, so somebody else makes it.
  defp cancel(%{settings: settings, job: job} = state) do
    if key = Session.key(state.session), do: spawn(fn -> cancel(settings, key) end)
    Process.cancel_timer(job.timer)
    receive(do: (:late -> :ok), after: (0 -> :ok))
    %{state | job: %{job | late: true, timer: Process.send_after(self(), :late, settings.cancel_wait)}}
  end

  defp cancel(settings, {pid, secret}) do
    until = now() + settings.cancel_wait

    with {:ok, socket} <- Socket.open(settings, until) do
      Socket.send(socket, Message.cancel(pid, secret))
      # The server closes when it has passed the request on.
      Socket.recv(socket, until)
      Socket.close(socket)
    end
  end

  # A stack trace names a failed call's arguments, and those hold what was asked and answered.
  defp shielded(fun) do
    fun.()
  catch
    kind, _reason -> exit({:connection_failed, kind, Enum.map(__STACKTRACE__, &without_arguments/1)})
  end

  defp without_arguments({module, name, arguments, place}) when is_list(arguments),
    do: {module, name, length(arguments), place}

  defp without_arguments(item), do: item

  defp now, do: System.monotonic_time(:millisecond)
end
