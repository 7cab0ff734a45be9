defmodule Bench.Umadb do
  @moduledoc false
  # UmaDB, an event store in Rust: its server and its Python client, installed into a folder of the bench's own.

  @version "0.7.8"
  @root "_build/bench"
  @python Path.join(@root, "python/bin/python")
  @server Path.join(@root, "umadb/bin/umadb")

  @doc "The version that is here, nil if none is."
  @spec version :: String.t() | nil
  def version, do: if(File.exists?(@server) and File.exists?(@python), do: @version)

  @doc "A server below the folder, and a client of it."
  @spec start(Path.t()) :: {port, port}
  def start(dir) do
    install()
    address = "127.0.0.1:#{free_port()}"
    log = Path.join(dir, "umadb.log")
    client = Bench.Peer.start(@python, ["bench/peers/umadb_client.py", "http://" <> address])
    server = Bench.Peer.serve([@server, "--listen", address, "--db-path", Path.join(dir, "uma.db")], log, "TERM")
    Bench.Peer.wait(fn -> answers?(address) end, log)
    {server, client}
  end

  @spec stop({port, port}) :: :ok
  def stop({server, client}) do
    Bench.Peer.stop(client)
    Bench.Peer.shut(server)
  end

  @doc "As `Bench.Postgres.append/5`."
  @spec append({port, port}, pos_integer, pos_integer, number, pos_integer) :: [float]
  def append({_server, client}, callers, batch, seconds, bytes),
    do: Bench.Peer.ask(client, "#{callers} #{batch} #{seconds} #{bytes}")

  defp install do
    {_, status} =
      System.cmd(Path.expand("bench/peers/install_umadb"), [@version, @root], into: IO.stream(:stderr, :line))

    if status != 0, do: raise(@root |> Path.join("umadb.missing") |> File.read!() |> String.trim())
  end

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  defp answers?(address) do
    [_, port] = String.split(address, ":")

    with {:ok, socket} <- :gen_tcp.connect({127, 0, 0, 1}, String.to_integer(port), []) do
      :gen_tcp.close(socket)
      true
    else
      {:error, _} -> false
    end
  end
end
