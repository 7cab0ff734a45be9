defmodule EventSeal.Faults.Cable do
  @moduledoc false
  # The wire between a store and its server: it is cut when so many bytes more have gone one way, on whichever connection.
  alias EventSeal.{FaultyFiles, Wire}

  @ways [up: 1, down: 2]
  @pairs 3
  @reset 4

  @enforce_keys [:port, :state]
  defstruct @enforce_keys

  @doc "Lays one to a port of loopback; it goes with its caller."
  def lay(port) do
    state = :atomics.new(4, [])
    %__MODULE__{port: Wire.listen!(&serve(&1, port, state)), state: state}
  end

  @doc "Has it cut (`:close` or `:reset`) after so many bytes, at least one."
  def arm(%{state: state}, way, bytes, how) do
    :atomics.put(state, @reset, if(how == :reset, do: 1, else: 0))
    :atomics.put(state, @ways[way], bytes)
  end

  @doc "Leaves it whole."
  def disarm(%{state: state}), do: for({_way, at} <- @ways, do: :atomics.put(state, at, 0))

  @doc "How many connections it carries."
  def pairs(%{state: state}), do: :atomics.get(state, @pairs)

  defp serve(client, port, state) do
    with {:ok, server} <- :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, nodelay: true]) do
      :atomics.add(state, @pairs, 1)
      carry(client, server, state)
      :atomics.sub(state, @pairs, 1)
    end

    :gen_tcp.close(client)
  end

  defp carry(client, server, state) do
    me = self()

    for {from, to, way} <- [{client, server, :up}, {server, client, :down}],
        do: spawn_link(fn -> pump(from, to, way, state, me) end)

    receive do
      :cut ->
        if :atomics.get(state, @reset) == 1,
          do: for(end_ <- [client, server], do: :inet.setopts(end_, linger: {true, 0}))

      :end ->
        :ok
    end

    for socket <- [client, server], do: :gen_tcp.close(socket)
  end

  defp pump(from, to, way, state, pair) do
    with {:ok, data} <- :gen_tcp.recv(from, 0),
         :whole <- cut(data, @ways[way], state),
         :ok <- :gen_tcp.send(to, data) do
      pump(from, to, way, state, pair)
    else
      {:cut, data} ->
        :gen_tcp.send(to, data)
        FaultyFiles.strike({:cut, way})
        send(pair, :cut)

      {:error, _gone} ->
        send(pair, :end)
    end
  end

  defp cut(data, at, state) do
    with left when left > 0 <- :atomics.get(state, at), false <- FaultyFiles.suspended?() do
      if left > byte_size(data) do
        :atomics.sub(state, at, byte_size(data))
        :whole
      else
        :atomics.put(state, at, 0)
        {:cut, binary_part(data, 0, left)}
      end
    else
      _unarmed -> :whole
    end
  end
end
