defmodule EventSeal.Stamp do
  @moduledoc """
  A time stamp (RFC 3161): a time-stamp authority says that a checkpoint existed before a time, and so all that the log held
  then. A store's own times are claims; this is somebody else's word.

  `EventSeal.stamp_request/2` makes what an authority is asked, `EventSeal.add_stamp/4` checks its answer and keeps it with
  the checkpoint, as one more signature line of its note (FORMAT.md, "Time stamps"): so it goes wherever the checkpoint goes.

    * `size` - of the stamped checkpoint
    * `time` - when it was stamped, as the authority says, in µs since the UNIX epoch; `accuracy` - ± so many µs, or nil
    * `authority` - the subject of the certificate that it is signed with
    * `anchor` - the subject of the trusted certificate which that one leads to; nil where none were given: then anyone may
      have made the stamp
    * `policy`, `serial` - the authority's own

  What is checked: one signer, the signature over its signed attributes (SHA-256, SHA-384 or SHA-512 with RSA or ECDSA), by
  which what is said and the very certificate are bound; the digest of the checkpoint's text; a certificate for time stamping
  alone, which is critical there; its way to a trusted certificate, all of them valid at the time of the stamp. Whether a
  certificate was revoked is not asked.
  """

  alias EventSeal.Error
  alias EventSeal.Stamp.{Authority, Der, Token}

  @enforce_keys [:size, :time, :authority, :policy, :serial]
  defstruct [:size, :time, :accuracy, :authority, :anchor, :policy, :serial]

  @type t :: %__MODULE__{
          size: non_neg_integer,
          time: integer,
          accuracy: non_neg_integer | nil,
          authority: String.t(),
          anchor: String.t() | nil,
          policy: String.t(),
          serial: non_neg_integer
        }
  @typedoc "Trusted certificates: the path of a PEM file, or their DER."
  @type anchors :: Path.t() | [binary, ...]

  # A note can bear no more.
  @longest 1_048_576
  @name "event-seal/rfc3161"
  # As signed notes name a key, of a type that has no number: there is no public key, and each authority has the same id.
  @id binary_part(:crypto.hash(:sha256, @name <> "\n" <> <<0xFF>> <> "RFC 3161 TimeStampToken"), 0, 4)
  @line "— #{@name} "
  {:ok, sha256} = Der.oid("2.16.840.1.101.3.4.2.1")
  @sha256 Der.value(0x30, [Der.value(0x06, sha256), Der.value(0x05, "")])

  @doc "The time before which the checkpoint existed, in µs since the UNIX epoch: when it was stamped, as exactly as that is known."
  @spec before(t) :: integer
  def before(%__MODULE__{time: time, accuracy: accuracy}), do: time + (accuracy || 0)

  @doc """
  The stamp in one line.

      iex> stamp = %EventSeal.Stamp{size: 9, time: 1_791_000_000_500_000, authority: "CN=Stamps", policy: "1.2.3", serial: 1}
      iex> EventSeal.Stamp.to_line(stamp)
      "the checkpoint of size 9 existed before 2026-10-03 04:00:01 UTC, says CN=Stamps, whose certificate was not checked"
  """
  @spec to_line(t) :: String.t()
  def to_line(%__MODULE__{} = stamp) do
    # A second that has begun counts as over.
    at = DateTime.from_unix!(-Integer.floor_div(-before(stamp), 1_000_000))
    at = Calendar.strftime(at, "%Y-%m-%d %H:%M:%S UTC")
    checked = if stamp.anchor, do: " under #{stamp.anchor}", else: ", whose certificate was not checked"
    "the checkpoint of size #{stamp.size} existed before #{at}, says #{stamp.authority}#{checked}"
  end

  @doc """
  The stamps of a checkpoint's note, in the order in which they were added; an empty list if it has none. `anchors` are the certificates that are trusted,
  nil if that is not asked. The note's own signatures are not looked at (`EventSeal.Checkpoint.open/2`).

  `:untrusted` if one does not hold, or leads to no anchor; `:malformed` if it is no stamp.
  """
  @spec verify(String.t(), anchors | nil) :: {:ok, [t]} | {:error, Error.t()}
  def verify(note, anchors) do
    with {:ok, trusted} <- trusted(anchors) do
      add = fn token, stamps -> with {:ok, stamp} <- check(note, token, trusted), do: {:ok, [stamp | stamps]} end
      note |> tokens() |> Enum.reverse() |> Error.reduce([], add)
    end
  end

  @doc "The TimeStampTokens of a checkpoint's note, DER: what `openssl ts -verify -token_in` reads."
  @spec tokens(String.t()) :: [binary]
  def tokens(note) do
    for @line <> line <- String.split(note, "\n"), {:ok, @id <> token} <- [Base.decode64(line)], do: token
  end

  @doc false
  # Whether there may be any, without looking closely.
  @spec mentioned?(binary) :: boolean
  def mentioned?(packed), do: :binary.match(packed, "\n" <> @line) != :nomatch

  @doc false
  # The line by which a note bears a token.
  @spec line(binary) :: String.t()
  def line(token), do: @line <> Base.encode64(@id <> token) <> "\n"

  @doc false
  @spec digest(String.t()) :: <<_::256>>
  def digest(note), do: :crypto.hash(:sha256, text(note))

  # What the log has signed: all before the last empty line.
  defp text(note) do
    case :binary.matches(note, "\n\n") do
      [] -> note
      matches -> binary_part(note, 0, elem(List.last(matches), 0) + 1)
    end
  end

  @doc false
  # A TimeStampReq for the text of a note.
  @spec request(String.t(), String.t() | nil) :: {:ok, binary} | {:error, Error.t()}
  def request(note, policy) do
    with {:ok, policy} <- policy(policy) do
      imprint = Der.value(0x30, [@sha256, Der.value(0x04, digest(note))])
      nonce = Der.integer(:binary.decode_unsigned(:crypto.strong_rand_bytes(16)))
      {:ok, Der.value(0x30, [Der.integer(1), imprint, policy, nonce, Der.value(0x01, <<0xFF>>)])}
    end
  end

  defp policy(nil), do: {:ok, []}

  defp policy(text) do
    case Der.oid(text) do
      {:ok, id} -> {:ok, Der.value(0x06, id)}
      :error -> {:error, Error.new(:invalid, field: :policy, rule: "must be an object identifier, such as 1.2.3.4")}
    end
  end

  @doc false
  # What a request asks for, as `request/2` made it.
  @spec asked(binary) :: {:ok, %{digest: binary, nonce: integer, policy: String.t() | nil}} | {:error, Error.t()}
  def asked(request) do
    checked(fn ->
      with [{0x02, <<1>>, _}, {0x30, <<@sha256, imprint::binary>>, _} | rest] <- Der.all!(Der.one!(request, 0x30)),
           {policy, [{0x02, nonce, _}, {0x01, <<0xFF>>, _}]} <- with_policy(rest) do
        %{digest: Der.one!(imprint, 0x04), nonce: Der.integer!(nonce), policy: policy && Der.oid!(policy)}
      else
        _other -> Der.malformed!("a request of another form than is made here")
      end
    end)
  end

  defp with_policy([{0x06, id, _} | rest]), do: {id, rest}
  defp with_policy(rest), do: {nil, rest}

  @doc false
  # One token of a note, by certificates that were read.
  @spec check(String.t(), binary, [Authority.certificate()] | nil) :: {:ok, t} | {:error, Error.t()}
  def check(note, token, trusted), do: checked(fn -> elem(open!(note, token, trusted), 0) end)

  @doc false
  # The token of a TimeStampResp, and its stamp, if it is what was asked.
  @spec answer(binary, map, String.t(), anchors) :: {:ok, {binary, t}} | {:error, Error.t()}
  def answer(response, asked, note, anchors) do
    with {:ok, trusted} <- trusted(anchors) do
      checked(fn ->
        token = granted!(response)
        {stamp, nonce} = open!(note, token, trusted)
        if nonce != asked.nonce, do: untrusted!("it answers another request")

        if asked.policy not in [nil, stamp.policy],
          do: untrusted!("it was made under another policy than was asked for")

        {token, stamp}
      end)
    end
  end

  defp granted!(response) when byte_size(response) > @longest, do: Der.malformed!("no response, but something longer")

  defp granted!(response) do
    case Der.all!(Der.one!(response, 0x30)) do
      [{0x30, status, _} | token] -> token!(Der.all!(status), token)
      _other -> Der.malformed!("no response")
    end
  end

  defp token!([{0x02, <<0>>, _} | _texts], [{0x30, _, token}]), do: token

  defp token!([{0x02, status, _} | _texts], _token),
    do: untrusted!("the authority has not granted it: status #{Der.integer!(status)}")

  defp token!(_status, _token), do: Der.malformed!("no response")

  defp open!(note, token, trusted) do
    {said, certificate, others} = Token.open!(token)
    if said.imprint != {:sha256, digest(note)}, do: untrusted!("it is of something else than this checkpoint")

    stamp = %__MODULE__{
      size: size!(note),
      time: said.time,
      accuracy: said.accuracy,
      authority: Authority.subject(certificate),
      anchor: Authority.trusted!(certificate, others, trusted, said.time),
      policy: said.policy,
      serial: said.serial
    }

    {stamp, said.nonce}
  end

  defp size!(note) do
    with [_origin, size | _] <- String.split(note, "\n"), {size, ""} <- Integer.parse(size) do
      size
    else
      _other -> Der.malformed!("no checkpoint that it could be of")
    end
  end

  @doc false
  # The certificates that are trusted, read.
  @spec trusted(anchors | nil) :: {:ok, [Authority.certificate()] | nil} | {:error, Error.t()}
  def trusted(nil), do: {:ok, nil}

  def trusted(path) when is_binary(path) do
    with {:ok, text} <- Error.posix(File.read(path), path),
         do: trusted(for {:Certificate, der, :not_encrypted} <- pem(text), do: der)
  end

  def trusted([]), do: {:error, Error.new(:invalid, field: :anchors, rule: "must be certificates, in PEM")}
  def trusted(ders), do: checked(fn -> Enum.map(ders, &Authority.certificate!/1) end)

  defp pem(text) do
    :public_key.pem_decode(text)
  rescue
    # Between the lines of a PEM file anything may stand.
    _any -> []
  end

  defp checked(fun) do
    {:ok, fun.()}
  rescue
    error in Error -> {:error, error}
  end

  @spec untrusted!(String.t()) :: no_return
  defp untrusted!(why), do: raise(Error.new(:untrusted, detail: "the time stamp: " <> why))
end
