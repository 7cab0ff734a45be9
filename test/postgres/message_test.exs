defmodule EventSeal.Postgres.MessageTest do
  use ExUnit.Case, async: true

  import EventSeal.Wire, only: [message: 2]
  alias EventSeal.Postgres.Message

  @messages [
    {message(?R, <<0::32>>), {:auth, 0, ""}},
    {message(?R, [<<10::32>>, "SCRAM-SHA-256", 0, 0]), {:auth, 10, <<"SCRAM-SHA-256", 0, 0>>}},
    {message(?K, <<7::32, 8::32>>), {:key, 7, <<8::32>>}},
    {message(?S, ["a", 0, "b", 0]), {:parameter, "a", "b"}},
    {message(?Z, "I"), {:ready, :idle}},
    {message(?Z, "T"), {:ready, :transaction}},
    {message(?Z, "E"), {:ready, :failed}},
    {message(?E, ["C42P01", 0, "Mno", 0, 0]), {:error, [{?C, "42P01"}, {?M, "no"}]}},
    {message(?N, [0]), {:notice, []}},
    {message(?T, [<<1::16>>, "n", 0, <<0::48, 20::32, 8::16, 0::32, 1::16>>]), {:columns, [20]}},
    {message(?D, <<1::16, -1::32>>), {:row, <<1::16, -1::32>>}},
    {message(?C, ["INSERT 0 1", 0]), {:complete, "INSERT 0 1"}},
    {message(?1, ""), :parsed},
    {message(?2, ""), :bound},
    {message(?n, ""), :no_data},
    {message(?I, ""), :empty},
    {message(?G, <<1, 0::16>>), {:copy_in, :binary}},
    {message(?H, <<0, 0::16>>), {:copy_out, :text}},
    {message(?d, "x"), {:copy_data, "x"}},
    {message(?c, ""), :copy_done},
    {message(?A, <<1::32, "c", 0, "p", 0>>), :notification},
    {message(?v, <<0::32, 0::32>>), {:version, 0}}
  ]

  test "each message is read as it is written, and what stands behind it is left" do
    for {bytes, message} <- @messages, rest <- ["", "Z"] do
      assert Message.decode(IO.iodata_to_binary([bytes, rest]), :session) == {:ok, message, rest}
    end
  end

  test "a message that is not whole is waited for, wherever it was cut" do
    for {bytes, _message} <- @messages, bytes = IO.iodata_to_binary(bytes), cut <- 0..(byte_size(bytes) - 1) do
      assert {:more, length} = Message.decode(binary_part(bytes, 0, cut), :session)
      assert length == if(cut < 5, do: 5, else: byte_size(bytes))
    end
  end

  test "what no server says is nonsense, and is not waited for" do
    for bytes <-
          ["HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-OpenSSH_9.2\r\n", <<22, 3, 1, 0, 5>>, <<0>>, "Z" <> <<3::32>>] ++
            [<<?D, -1::32>>, IO.iodata_to_binary(message(?Z, "X")), IO.iodata_to_binary(message(?T, <<9::16>>))] ++
            [IO.iodata_to_binary(message(?E, "Cno end")), IO.iodata_to_binary(message(?S, "a"))] do
      assert Message.decode(bytes, :greeting) == :nonsense, inspect(bytes)
    end

    assert Message.decode(<<?D, 100_000::32>>, :greeting) == :nonsense
    assert Message.decode(<<?D, 100_000::32>>, :session) == {:more, 100_001}
  end

  test "random bytes never raise" do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..20_000 do
      tag = Enum.random('RKSZENTDCGHdc123ntIsAv')
      body = :rand.bytes(:rand.uniform(40))
      message = IO.iodata_to_binary(message(tag, body))
      assert match?({:ok, _, ""}, Message.decode(message, :session)) or Message.decode(message, :session) == :nonsense
    end
  end
end
