defmodule EventSeal.Postgres.ScramTest do
  use ExUnit.Case, async: true

  alias EventSeal.Postgres.{Error, Scram}

  # RFC 7677, section 3, but for the user's name, which PostgreSQL takes from elsewhere. The proof and signature follow from
  # the messages, so they are computed here once more, as RFC 5802 writes them.
  @nonce "rOprNGfwEbeRWgbNEkqO"
  @server_first "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
  @password "pencil"

  defp password, do: fn -> @password end

  defp expected(client_first, client_final) do
    message = client_first <> "," <> @server_first <> "," <> client_final
    salt = Base.decode64!("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = :crypto.pbkdf2_hmac(:sha256, @password, salt, 4096, 32)
    key = :crypto.mac(:hmac, :sha256, salted, "Client Key")
    signature = :crypto.mac(:hmac, :sha256, :crypto.hash(:sha256, key), message)
    server = :crypto.mac(:hmac, :sha256, :crypto.mac(:hmac, :sha256, salted, "Server Key"), message)
    {Base.encode64(:crypto.exor(key, signature)), Base.encode64(server)}
  end

  test "the exchange, without and with a certificate to be bound to" do
    for {mechanisms, end_point, mechanism, header} <- [
          {["SCRAM-SHA-256"], nil, "SCRAM-SHA-256", "n,,"},
          {["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], nil, "SCRAM-SHA-256", "n,,"},
          {["SCRAM-SHA-256"], <<7::256>>, "SCRAM-SHA-256", "y,,"},
          {["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], <<7::256>>, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"}
        ] do
      assert {:ok, ^mechanism, first, state} = Scram.first(mechanisms, password(), end_point, @nonce)
      assert first == header <> "n=,r=" <> @nonce
      assert {:ok, final, state} = Scram.final(state, @server_first)
      bound = if mechanism =~ "PLUS", do: header <> end_point, else: header
      bare = "c=#{Base.encode64(bound)},r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
      {proof, signature} = expected("n=,r=" <> @nonce, bare)
      assert final == bare <> ",p=" <> proof
      assert Scram.proven(state, "v=" <> signature) == :ok
      assert {:error, %Error{code: "28P01"}} = Scram.proven(state, "v=" <> Base.encode64(<<0::256>>))
      assert {:error, %Error{code: "28P01"}} = Scram.proven(state, "v=")
      assert {:error, %Error{code: "28P01"}} = Scram.proven(state, "e=other-error")
    end
  end

  test "the vector of RFC 7677" do
    # With the user's name in the first message the values are those that the RFC prints.
    {:ok, _, _, state} = Scram.first(["SCRAM-SHA-256"], password(), nil, @nonce)
    {:ok, final, state} = Scram.final(%{state | first: "n=user,r=" <> @nonce}, @server_first)
    assert final =~ ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert Scram.proven(state, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == :ok
  end

  test "a server that has not proved anything is not believed" do
    {:ok, _, _, state} = Scram.first(["SCRAM-SHA-256"], password(), nil, @nonce)
    assert {:error, %Error{code: "28P01"}} = Scram.proven(state, "v=" <> Base.encode64(<<0::256>>))
  end

  test "a challenge that is none is refused" do
    {:ok, _, _, state} = Scram.first(["SCRAM-SHA-256"], password(), nil, @nonce)

    for challenge <- [
          "",
          "r=#{@nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
          "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
          "r=#{@nonce}x,s=,i=4096",
          "r=#{@nonce}x,s=no base64,i=4096",
          "r=#{@nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
          "r=#{@nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096x",
          "r=#{@nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000",
          "m=x,r=#{@nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        ] do
      assert {:error, %Error{code: "08P01"}} = Scram.final(state, challenge), challenge
    end
  end

  test "a server without SCRAM-SHA-256 is refused" do
    assert {:error, %Error{code: "28000"}} = Scram.first(["SCRAM-SHA-1", ""], password(), nil, @nonce)
  end
end
