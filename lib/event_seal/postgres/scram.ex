defmodule EventSeal.Postgres.Scram do
  @moduledoc false
  # SCRAM-SHA-256 (RFC 5802, RFC 7677) as pure state, with channel binding tls-server-end-point (RFC 5929) where there is a
  # certificate: both sides prove that they know the password, and that they see the same certificate; nobody sends it.

  alias EventSeal.Postgres.Error

  @plain "SCRAM-SHA-256"
  @plus "SCRAM-SHA-256-PLUS"
  # A server could ask for any number; each costs about a third of a microsecond.
  @most_iterations 10_000_000

  @type state :: %{
          header: binary,
          binding: binary,
          nonce: binary,
          first: binary,
          password: (() -> binary),
          signature: binary | nil
        }

  @doc """
  Begins: the mechanism, and the first message. `end_point` is the hash of the server's certificate, nil without TLS or
  where none is defined.
  """
  @spec first([binary], (() -> binary), binary | nil, binary) ::
          {:ok, binary, binary, state} | {:error, Error.t()}
  def first(mechanisms, password, end_point, nonce \\ Base.encode64(:crypto.strong_rand_bytes(18))) do
    case binding(mechanisms, end_point) do
      {:ok, mechanism, header, binding} ->
        first = "n=,r=#{nonce}"
        state = %{header: header, binding: binding, nonce: nonce, first: first, password: password, signature: nil}
        {:ok, mechanism, header <> first, state}

      :error ->
        {:error, Error.new("28000", "the server does not offer SCRAM-SHA-256")}
    end
  end

  # `y` says that we could bind and the server did not offer to: one that did offer sees that somebody took it away.
  defp binding(mechanisms, end_point) do
    cond do
      end_point && @plus in mechanisms -> {:ok, @plus, "p=tls-server-end-point,,", end_point}
      @plain not in mechanisms -> :error
      end_point -> {:ok, @plain, "y,,", ""}
      true -> {:ok, @plain, "n,,", ""}
    end
  end

  @doc "Answers the server's first message."
  @spec final(state, binary) :: {:ok, binary, state} | {:error, Error.t()}
  def final(state, server_first) do
    with {:ok, nonce, salt, iterations} <- challenge(server_first, state.nonce) do
      bare = "c=#{Base.encode64(state.header <> state.binding)},r=#{nonce}"
      message = Enum.join([state.first, server_first, bare], ",")
      salted = :crypto.pbkdf2_hmac(:sha256, prepare(state.password.()), salt, iterations, 32)
      key = mac(salted, "Client Key")
      proof = :crypto.exor(key, mac(:crypto.hash(:sha256, key), message))
      signature = mac(mac(salted, "Server Key"), message)
      {:ok, "#{bare},p=#{Base.encode64(proof)}", %{state | signature: signature}}
    end
  end

  defp challenge(text, own) do
    with ["r=" <> nonce, "s=" <> salt, "i=" <> iterations] <- String.split(text, ","),
         true <- String.starts_with?(nonce, own) and byte_size(nonce) > byte_size(own),
         {:ok, <<_, _::binary>> = salt} <- Base.decode64(salt),
         {iterations, ""} when iterations in 1..@most_iterations <- Integer.parse(iterations) do
      {:ok, nonce, salt, iterations}
    else
      _other -> {:error, Error.new("08P01", "the server's SCRAM challenge is none")}
    end
  end

  @doc "Whether the server's last message proves that it knows the password."
  @spec proven(state, binary) :: :ok | {:error, Error.t()}
  def proven(%{signature: <<_::binary-32>> = signature}, "v=" <> text) do
    case Base.decode64(text) do
      {:ok, <<_::binary-32>> = shown} ->
        if :crypto.hash_equals(shown, signature), do: :ok, else: unproven()

      _other ->
        unproven()
    end
  end

  def proven(_state, _text), do: unproven()

  defp unproven, do: {:error, Error.new("28P01", "the server does not prove that it knows the password")}

  defp mac(key, text), do: :crypto.mac(:hmac, :sha256, key, text)

  # SASLprep (RFC 4013) as PostgreSQL has it: spaces are one space, invisible characters go, and the rest is NFKC; what is no
  # UTF-8 stays as it is.
  defp prepare(password) do
    with true <- String.valid?(password),
         kept = for(<<char::utf8 <- password>>, char not in [0xAD, 0x34F, 0x1806, 0x2060, 0xFEFF], do: space(char)),
         kept = Enum.reject(kept, &(&1 in 0x180B..0x180D or &1 in 0x200C..0x200D or &1 in 0xFE00..0xFE0F)),
         prepared when is_binary(prepared) <- :unicode.characters_to_nfkc_binary(kept) do
      prepared
    else
      _not_text -> password
    end
  end

  defp space(char) when char in [0xA0, 0x1680, 0x202F, 0x205F, 0x3000] or char in 0x2000..0x200B, do: ?\s
  defp space(char), do: char
end
