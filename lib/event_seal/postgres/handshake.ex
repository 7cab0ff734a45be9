defmodule EventSeal.Postgres.Handshake do
  @moduledoc false
  # From the first message to the server's being ready, as pure state: messages in, bytes out.

  alias EventSeal.Postgres.{Error, Message, Scram, Session, Settings}

  @enforce_keys [:settings, :end_point]
  defstruct [:settings, :end_point, :scram, step: :begun, session: %Session{}]

  @opaque t :: %__MODULE__{}

  # What a session needs to be understood.
  @parameters [{"client_encoding", "UTF8"}]

  @spec first(Settings.t(), binary | nil) :: {iodata, t}
  def first(settings, end_point) do
    parameters = [{"user", settings.user}, {"database", settings.database} | @parameters ++ settings.parameters]
    {Message.startup(parameters), %__MODULE__{settings: settings, end_point: end_point}}
  end

  @spec step(t, Message.t()) :: {:next, iodata, t} | {:ready, Session.t()} | {:error, Error.t()}
  def step(state, message)

  def step(_state, {:error, fields}), do: {:error, Error.from_fields(fields)}
  def step(state, {:notice, _fields}), do: {:next, [], state}

  def step(%{step: :begun} = state, {:auth, 10, data}) do
    with {:ok, password} <- password(state.settings),
         {:ok, mechanism, first, scram} <-
           Scram.first(:binary.split(data, <<0>>, [:global]), password, state.end_point),
         do: {:next, Message.sasl_first(mechanism, first), %{state | step: :asked, scram: scram}}
  end

  def step(%{step: :asked} = state, {:auth, 11, data}) do
    with {:ok, final, scram} <- Scram.final(state.scram, data),
         do: {:next, Message.sasl(final), %{state | step: :answered, scram: scram}}
  end

  def step(%{step: :answered} = state, {:auth, 12, data}) do
    with :ok <- Scram.proven(state.scram, data), do: {:next, [], %{state | step: :proven, scram: nil}}
  end

  # Where the server asks for nothing, as for a socket's owner, there is nothing to prove.
  def step(%{step: step} = state, {:auth, 0, ""}) when step in [:begun, :proven],
    do: {:next, [], %{state | step: :let_in}}

  def step(%{step: :begun}, {:auth, _other, _}),
    do: {:error, Error.new("28000", "the server asks for another proof than SCRAM-SHA-256")}

  def step(%{step: :begun}, {:version, _}), do: {:error, Error.new("08P01", "the server does not speak protocol 3.0")}

  def step(%{step: :let_in} = state, {:key, _, _} = key),
    do: {:next, [], %{state | session: Session.note(state.session, key)}}

  def step(%{step: :let_in} = state, {:parameter, _, _} = parameter),
    do: {:next, [], %{state | session: Session.note(state.session, parameter)}}

  def step(%{step: :let_in} = state, {:ready, :idle}), do: {:ready, state.session}
  def step(_state, _message), do: {:error, Error.new("08P01", "the server breaks the protocol while it is greeted")}

  defp password(%{password: nil}), do: {:error, Error.new("28P01", "the server asks for a password, and none is given")}
  defp password(%{password: password}), do: {:ok, password}
end
