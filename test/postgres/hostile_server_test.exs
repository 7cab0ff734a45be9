defmodule EventSeal.Postgres.HostileServerTest do
  # Servers that speak nonsense, ask for what must not be given, or never answer. Each call ends, with an error that says
  # what is known.
  use ExUnit.Case, async: true

  import EventSeal.Wire
  import ExUnit.CaptureLog
  alias EventSeal.Postgres
  alias EventSeal.Postgres.Error

  @secret "open sesame"

  defp ask(serve, parameters \\ "sslmode=disable") do
    {answer, log} =
      with_log(fn ->
        name = :"hostile_#{System.unique_integer([:positive])}"
        opts = [url: "postgres://nurse@127.0.0.1:#{listen!(serve)}/ward?#{parameters}", password: fn -> @secret end]
        times = [pool: 1, timeout: 3_000, connect_timeout: 2_000, cancel_wait: 500, backoff: {1, 20}]
        start_supervised!({Postgres, {name, opts ++ times}})
        answer = Postgres.run(name, [{"SELECT $1", [text: @secret]}])
        stop_supervised!(name)
        answer
      end)

    refute log =~ @secret
    answer
  end

  test "one that closes at once" do
    assert {:error, %Error{code: "08001"}} = ask(&:gen_tcp.close/1)
  end

  test "one that never answers" do
    assert {:error, %Error{code: "08001"}} = ask(fn _ -> Process.sleep(:infinity) end)
  end

  test "one that is not there" do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    :gen_tcp.close(listener)
    url = "postgres://nurse@127.0.0.1:#{port}/ward?sslmode=disable"

    capture_log(fn ->
      start_supervised!({Postgres, {:nobody, url: url, timeout: 300, backoff: {1, 20}}})
      assert {:error, %Error{code: "08001"} = error} = Postgres.run(:nobody, [{"SELECT 1", []}])
      assert Exception.message(error) =~ "econnrefused"
    end)
  end

  test "ones that speak something else" do
    for said <- [
          "HTTP/1.1 400 Bad Request\r\n\r\n",
          "SSH-2.0-x\r\n",
          <<0::4096>>,
          message(?Z, "I"),
          message(?D, <<0::16>>)
        ] do
      assert {:error, %Error{code: "08P01"}} = ask(&:gen_tcp.send(&1, said))
    end
  end

  test "one that never stops talking before it lets anyone in" do
    chatter = fn socket, chatter -> if :gen_tcp.send(socket, message(?N, [0])) == :ok, do: chatter.(socket, chatter) end
    assert {:error, %Error{code: "08001"}} = ask(fn socket -> chatter.(socket, chatter) end)
  end

  test "ones that ask for the password itself, as MD5 or by other means get nothing" do
    test = self()

    for method <- [2, 3, 5, 6, 7, 9] do
      serve = fn socket ->
        :gen_tcp.send(socket, message(?R, <<method::32, 1::32>>))
        send(test, {:heard, all(socket, "")})
      end

      assert {:error, %Error{code: "28000"}} = ask(serve)
      assert_receive {:heard, heard}
      refute heard =~ @secret or heard =~ <<?p>> <> <<0, 0>>
    end
  end

  test "one that lets us in without having proved that it knows the password" do
    serve = fn socket ->
      {:ok, _startup} = :gen_tcp.recv(socket, 0)
      :gen_tcp.send(socket, message(?R, [<<10::32>>, "SCRAM-SHA-256", 0, 0]))
      {:ok, _first} = :gen_tcp.recv(socket, 0)
      :gen_tcp.send(socket, [message(?R, <<0::32>>), message(?Z, "I")])
      all(socket, "")
    end

    assert {:error, %Error{code: "08P01"}} = ask(serve)
  end

  test "one that shows a false proof" do
    serve = fn socket ->
      {:ok, _startup} = :gen_tcp.recv(socket, 0)
      :gen_tcp.send(socket, message(?R, [<<10::32>>, "SCRAM-SHA-256", 0, 0]))
      {:ok, first} = :gen_tcp.recv(socket, 0)
      [_, nonce] = Regex.run(~r/r=(\S+)$/, first)
      :gen_tcp.send(socket, message(?R, [<<11::32>>, "r=#{nonce}x,s=c2FsdHNhbHQ=,i=4096"]))
      {:ok, _final} = :gen_tcp.recv(socket, 0)

      :gen_tcp.send(socket, [
        message(?R, [<<12::32>>, "v=", Base.encode64(<<1::256>>)]),
        message(?R, <<0::32>>),
        message(?Z, "I")
      ])

      all(socket, "")
    end

    assert {:error, %Error{code: "28P01"}} = ask(serve)
  end

  test "ones that refuse TLS, or stuff bytes behind their word" do
    for {said, code} <- [{"N", "28000"}, {"X", "08P01"}, {["S", message(?R, <<0::32>>), message(?Z, "I")], "08001"}] do
      assert {:error, %Error{code: ^code}} = ask(&:gen_tcp.send(&1, said), "sslmode=require")
    end
  end

  test "ones that let us in and then speak nonsense: nobody knows what was done" do
    for said <- [
          "nonsense",
          message(?C, ["SELECT 1", 0]),
          message(?Z, "I"),
          message(?D, <<0::16>>),
          <<?D, 3::32>>,
          message(?2, "")
        ] do
      serve = fn socket ->
        let_in(socket)
        {:ok, _asked} = :gen_tcp.recv(socket, 0)
        :gen_tcp.send(socket, said)
        all(socket, "")
      end

      assert {:error, %Error{code: "08007"}} = ask(serve)
    end
  end

  test "one that speaks before it is asked" do
    serve = fn socket ->
      let_in(socket)
      :gen_tcp.send(socket, message(?1, ""))
      all(socket, "")
    end

    assert {:error, %Error{code: code}} = ask(serve)
    assert code in ["08001", "08007"]
  end

  test "one that lets us in and never answers is given up after its time" do
    assert {:error, %Error{code: "08007"}} = ask(fn socket -> let_in(socket) && all(socket, "") end)
  end

  test "one that lets us in and reads nothing more is given up, however much it is sent" do
    name = :"hostile_#{System.unique_integer([:positive])}"
    port = listen!(fn socket -> let_in(socket) && Process.sleep(:infinity) end)
    opts = [url: "postgres://nurse@127.0.0.1:#{port}/ward?sslmode=disable", pool: 1, timeout: 2_000, cancel_wait: 500]

    capture_log(fn ->
      start_supervised!({Postgres, {name, opts}})
      large = {"SELECT $1", [bytea: :binary.copy("x", 100_000_000)]}
      assert {:error, %Error{code: "08007"}} = Postgres.run(name, [large])
    end)
  end

  test "one whose rows are not of the types that it told" do
    described = [
      message(?1, ""),
      message(?t, <<1::16, 25::32>>),
      message(?T, [<<1::16>>, "n", 0, <<0::48, 20::32, 8::16, 0::32, 1::16>>])
    ]

    for row <- [<<1::16, 3::32, 1, 2, 3>>, <<2::16, -1::32, -1::32>>, <<1::16, 99::32>>, ""] do
      serve = fn socket ->
        let_in(socket)
        {:ok, _asked} = :gen_tcp.recv(socket, 0)

        :gen_tcp.send(socket, [
          described,
          message(?2, ""),
          message(?D, row),
          message(?C, ["SELECT 1", 0]),
          message(?Z, "I")
        ])

        all(socket, "")
      end

      assert {:error, %Error{code: "08P01"}} = ask(serve)
    end
  end

  defp all(socket, heard) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, data} -> all(socket, heard <> data)
      {:error, _closed} -> heard
    end
  end
end
