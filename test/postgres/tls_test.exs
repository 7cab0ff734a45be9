defmodule EventSeal.Postgres.TlsTest do
  # TLS and logins: what is verified, what is refused, and what is never shown.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias EventSeal.{Postgres, PostgresServer, TestCertificates}
  alias EventSeal.Postgres.Error

  @moduletag timeout: 120_000
  @opts [pool: 1, timeout: 60_000, connect_timeout: 30_000, backoff: {20, 100}]

  setup_all do
    names = TestCertificates.make()
    server = PostgresServer.start!(tls: {names.certificate, names.key})
    on_exit(fn -> PostgresServer.stop!(server) end)
    root = server.dir <> "/root.crt"
    File.write!(root, names.root)
    {:ok, server: server, root: root}
  end

  defp ask(server, parameters, opts \\ []) do
    with_log(fn ->
      client = PostgresServer.client!(server, parameters, Keyword.merge(@opts, opts))

      sql =
        "SELECT ssl, client_addr IS NOT NULL FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()"

      answer = Postgres.run(client, [{sql, []}])
      stop_supervised!(client)
      answer
    end)
  end

  test "a server whose certificate is right, by name and by address", %{server: server, root: root} do
    for host <- ["127.0.0.1", "localhost"], mode <- ["verify-full", "verify-ca", "require"] do
      assert {{:ok, [%{rows: [[true, true]]}]}, _log} = ask(server, [sslmode: mode, sslrootcert: root], host: host)
    end
  end

  test "verified it is unless asked otherwise", %{server: server, root: root} do
    assert {{:ok, [%{rows: [[true, _]]}]}, _} = ask(server, sslrootcert: root)
    other = server.dir <> "/other.crt"
    File.write!(other, TestCertificates.make().root)
    assert {{:error, %Error{code: "28000"} = error}, log} = ask(server, sslrootcert: other)
    assert Exception.message(error) =~ "unknown_ca" or Exception.message(error) =~ "bad_certificate"
    assert log =~ "TLS"
    # The system's roots know nothing of ours.
    assert {{:error, %Error{code: "28000"}}, _} = ask(server, [])
    assert {{:error, %Error{code: "28000"}}, _} = ask(server, sslrootcert: server.dir <> "/nothing.crt")
  end

  test "the login is bound to the certificate", %{server: server, root: root} do
    {{:ok, _}, _} = ask(server, sslrootcert: root)
    # Whoever stands between with another certificate learns nothing and is not let in, even where nothing is verified.
    port = between(server)
    assert {{:error, %Error{code: "28000"} = error}, _} = ask(server, [sslmode: "require"], port: port)
    assert error.text =~ "channel binding"
  end

  # It ends the client's TLS, and begins its own to the server.
  defp between(server) do
    own = TestCertificates.make()
    [{_, certificate, _}] = :public_key.pem_decode(own.certificate)
    [{type, key, _}] = :public_key.pem_decode(own.key)

    EventSeal.Wire.listen!(fn client ->
      {:ok, upstream} = :gen_tcp.connect({127, 0, 0, 1}, server.port, [:binary, active: false])
      {:ok, request} = :gen_tcp.recv(client, 8)
      :ok = :gen_tcp.send(upstream, request)
      {:ok, "S"} = :gen_tcp.recv(upstream, 1)
      {:ok, upstream} = :ssl.connect(upstream, [verify: :verify_none], 5_000)
      :ok = :gen_tcp.send(client, "S")
      {:ok, client} = :ssl.handshake(client, [cert: certificate, key: {type, key}], 5_000)
      spawn_link(fn -> pump(client, upstream) end)
      pump(upstream, client)
    end)
  end

  defp pump(from, to) do
    with {:ok, data} <- :ssl.recv(from, 0), :ok <- :ssl.send(to, data), do: pump(from, to)
  end

  test "certificates that are expired, of another name or not yet valid are refused" do
    today = Date.utc_today()

    for opts <-
          [[validity: {Date.add(today, -20), Date.add(today, -10)}], [names: ["elsewhere.example"]]] ++
            [[validity: {Date.add(today, 10), Date.add(today, 20)}]] do
      made = TestCertificates.make(opts)
      server = PostgresServer.start!(tls: {made.certificate, made.key})
      root = server.dir <> "/root.crt"
      File.write!(root, made.root)
      assert {{:error, %Error{code: "28000"} = error}, _} = ask(server, [sslrootcert: root], host: "localhost")
      assert Exception.message(error) =~ "TLS: "
      PostgresServer.stop!(server)
    end
  end

  test "a certificate signed with another hash", %{} do
    made = TestCertificates.make(digest: :sha384)
    server = PostgresServer.start!(tls: {made.certificate, made.key})
    root = server.dir <> "/root.crt"
    File.write!(root, made.root)
    assert {{:ok, [%{rows: [[true, _]]}]}, _} = ask(server, sslrootcert: root)
    PostgresServer.stop!(server)
  end

  test "a server without TLS is refused where TLS is asked for" do
    assert {{:error, %Error{code: "28000"} = error}, _} = ask(PostgresServer.shared(), sslmode: "require")
    assert Exception.message(error) =~ "no TLS"
  end

  test "a wrong password, a wrong user, a wrong database: at once, and the password is shown nowhere", %{
    server: server,
    root: root
  } do
    secret = "not the password"

    for {code, opts} <- [
          {"28P01", [password: secret]},
          {"28P01", [password: secret, user: "nobody"]},
          {"3D000", [database: "nothing"]}
        ] do
      # Nobody waits for that hour: the answer comes as soon as the server has said no.
      assert {{:error, %Error{code: ^code} = error}, log} =
               ask(server, [sslrootcert: root], [timeout: 3_600_000] ++ opts)

      for shown <- [log, inspect(error), Exception.message(error)], do: refute(shown =~ secret)
    end
  end

  test "a password is in no child specification, state, report of a crash or log", %{server: server, root: root} do
    log =
      capture_log(fn ->
        client = PostgresServer.client!(server, [sslrootcert: root], @opts)
        {:ok, _} = Postgres.run(client, [{"SELECT $1", [text: "patient/4711"]}])

        {pid, _} =
          Enum.find_value(ExUnit.fetch_test_supervisor() |> elem(1) |> Supervisor.which_children(), fn {id, pid, _, _} ->
            if id == client, do: {pid, id}
          end)

        [{_, connection, _, _}] = for {1, _, _, _} = child <- Supervisor.which_children(pid), do: child

        shown = [
          inspect(:supervisor.get_childspec(pid, 1), limit: :infinity),
          inspect(:sys.get_status(connection), limit: :infinity),
          inspect(:sys.get_status(client), limit: :infinity)
        ]

        for text <- shown, do: refute(text =~ server.password or text =~ "4711")
        monitor = Process.monitor(connection)
        Postgres.Connection.ask(connection, {self(), make_ref()}, {:statements, ["patient/4711"]}, 0)
        assert_receive {:DOWN, ^monitor, :process, _, _}
        assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT 1", []}])
      end)

    assert log =~ "terminating"
    refute log =~ server.password or log =~ "4711"
  end

  test "options that are wrong are named, and their values are not" do
    for {opts, text} <- [
          {[url: "postgres://u:sesame@h/d"], "password"},
          {[url: "mysql://u:sesame@h/d"], ":url"},
          {[url: "postgres://u@h/d?sslmode=prefer"], "sslmode"},
          {[url: "postgres://u@h/d?sesame=1"], "not known"},
          {[url: "postgres://h/d"], "no user"},
          {[url: "postgres://u@h/d", password: "sesame"], ":password"},
          {[url: "postgres://u@h/d", pool: 0], ":pool"},
          {[url: "postgres://u@h/d", other: "sesame"], ":other"},
          {[], ":url"}
        ] do
      error = assert_raise ArgumentError, fn -> Postgres.child_spec({:wrong, opts}) end
      assert error.message =~ text
      refute error.message =~ "sesame" and not (text == "not known")
    end
  end
end
