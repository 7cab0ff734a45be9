defmodule EventSeal.Wire do
  @moduledoc false
  # What stands on the wire between a client and a server: a proxy that cuts it after so many bytes, and servers that do not
  # behave.

  @doc """
  A proxy before a port of loopback; its own port, and whether it has cut by now. `cut` is `{:up | :down, bytes}`: the first connection that has carried so
  many in that direction is cut; every one after that is left alone.
  """
  def proxy!(port, cut) do
    # How many connections there were, and whether one was cut.
    seen = :atomics.new(2, [])

    serve = fn client ->
      {:ok, server} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, nodelay: true])
      cut = if :atomics.add_get(seen, 1, 1) == 1, do: cut, else: :none
      parent = self()

      for {from, to, way} <- [{client, server, :up}, {server, client, :down}],
          do: spawn_link(fn -> pump(from, to, way, cut, parent) end)

      receive do
        :cut -> :atomics.put(seen, 2, 1)
        :end -> :ok
      end

      for socket <- [client, server], do: :gen_tcp.close(socket)
    end

    {listen!(serve), fn -> :atomics.get(seen, 2) == 1 end}
  end

  defp pump(from, to, way, {way, left}, parent) do
    case if(left > 0, do: :gen_tcp.recv(from, 0), else: 0) do
      {:ok, data} when byte_size(data) < left ->
        :gen_tcp.send(to, data)
        pump(from, to, way, {way, left - byte_size(data)}, parent)

      {:ok, data} ->
        :gen_tcp.send(to, binary_part(data, 0, left))
        send(parent, :cut)

      0 ->
        send(parent, :cut)

      _end ->
        send(parent, :end)
    end
  end

  defp pump(from, to, way, cut, parent) do
    with {:ok, data} <- :gen_tcp.recv(from, 0), :ok <- :gen_tcp.send(to, data) do
      pump(from, to, way, cut, parent)
    else
      _end -> send(parent, :end)
    end
  end

  @doc "A server that treats each connection so; its port. It goes with its caller."
  def listen!(serve) do
    {:ok, listener} =
      :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false, nodelay: true, backlog: 64, reuseaddr: true])

    {:ok, port} = :inet.port(listener)

    spawn_link(fn -> accept(listener, serve) end)
    port
  end

  defp accept(listener, serve) do
    with {:ok, socket} <- :gen_tcp.accept(listener) do
      handler = spawn(fn -> receive(do: (:go -> serve.(socket))) end)
      :gen_tcp.controlling_process(socket, handler)
      send(handler, :go)
      accept(listener, serve)
    end
  end

  @doc "Reads the startup message and lets the client in."
  def let_in(socket) do
    {:ok, <<length::32>>} = :gen_tcp.recv(socket, 4)
    {:ok, _startup} = :gen_tcp.recv(socket, length - 4)
    :ok = :gen_tcp.send(socket, [message(?R, <<0::32>>), message(?K, <<1::32, 2::32>>), message(?Z, "I")])
  end

  def message(tag, body), do: [tag, <<IO.iodata_length(body) + 4::32>>, body]
end
