defmodule EventSeal.Browser do
  @moduledoc false
  # A headless Chromium that looks at a page: what it has of it then, what it says to its console, and what it asks of the
  # network, all of which it has to ask of a proxy that answers nothing.

  @names ~w(chromium chromium-browser google-chrome) ++ ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]
  @flags ~w(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
            --disable-component-update --disable-sync --enable-logging=stderr --allow-file-access-from-files --dump-dom)
  # What the browser asks of its maker by itself, whatever it shows; what a page may have from there is not among it.
  @own ~r"(clients\d?|update|accounts|android|optimizationguide-pa|content-autofill|safebrowsing|edgedl)\.\w+\.\w+[/: ]"

  @doc "Opens a page: its DOM, the lines of its console, and the requests it made."
  def open(path) do
    dir = Path.join(Path.dirname(path), "browser-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    {proxy, port} = listen()
    log = Path.join(dir, "log")
    profile = ["--user-data-dir=#{Path.join(dir, "profile")}", "--proxy-server=http://127.0.0.1:#{port}"]
    args = [executable() | @flags] ++ profile ++ ["file://" <> Path.expand(path)]
    {dom, 0} = System.cmd("sh", ["-c", ~s(exec "$@" 2>"$LOG"), "sh" | args], env: [{"LOG", log}])
    console = log |> File.read!() |> String.split("\n") |> Enum.filter(&(&1 =~ "CONSOLE"))
    %{dom: dom, console: console, asked: Enum.reject(asked(proxy), &(&1 =~ @own))}
  end

  @doc "What a JavaScript expression says of the page, its window being `page`, laid out so wide."
  def measure(path, width, expression) do
    frame = path <> ".#{width}.html"

    File.write!(frame, """
    <iframe src="#{Path.basename(path)}" width="#{width}" height="900" style="border:0"></iframe>
    <script>onload = () => { const page = frames[0]; document.title = JSON.stringify(#{expression}) }</script>
    """)

    [_, said] = Regex.run(~r"<title>(.*?)</title>", open(frame).dom)
    EventSeal.Oracle.Json.decode!(said)
  end

  defp executable do
    Enum.find_value(@names, &System.find_executable/1) ||
      raise "no Chromium: bin/need brings it, or says which command does"
  end

  defp listen do
    {:ok, socket} = :gen_tcp.listen(0, [:binary, packet: :line, active: false, ip: {127, 0, 0, 1}])
    {:ok, port} = :inet.port(socket)
    proxy = Task.async(fn -> note(socket, []) end)
    :ok = :gen_tcp.controlling_process(socket, proxy.pid)
    {proxy, port}
  end

  defp note(socket, lines) do
    receive do
      :stop -> Enum.reverse(lines)
    after
      0 ->
        with {:ok, client} <- :gen_tcp.accept(socket, 50), {:ok, line} <- :gen_tcp.recv(client, 0, 5_000) do
          :gen_tcp.close(client)
          note(socket, [line | lines])
        else
          {:error, _} -> note(socket, lines)
        end
    end
  end

  defp asked(proxy) do
    send(proxy.pid, :stop)
    Task.await(proxy, 30_000)
  end
end
