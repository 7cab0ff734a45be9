defmodule EventSeal.Stamp.Token do
  @moduledoc false
  # A TimeStampToken (RFC 3161, CMS as in RFC 5652, RFC 5816): what it says, and whether the one who signed it did. Of its
  # certificates EventSeal.Stamp.Authority knows.
  #
  # What is signed is the bytes as they stand, so these are read here and not made anew of what a decoder returns.

  import EventSeal.Stamp.Der, only: [all!: 1, integer!: 1, malformed!: 1, oid!: 1, one!: 2, time!: 1]
  alias EventSeal.Stamp.{Authority, Der}
  alias EventSeal.Error

  @sequence 0x30
  @set 0x31
  @integer 0x02
  @octets 0x04
  @oid 0x06

  # The year 10000, for which there is no date.
  @latest 253_402_300_800_000_000

  # Contents of object identifiers, by what they name.
  ids = fn names -> Map.new(names, fn {text, name} -> {elem(Der.oid(text), 1), name} end) end
  {:ok, signed_data} = Der.oid("1.2.840.113549.1.7.2")
  {:ok, tst_info} = Der.oid("1.2.840.113549.1.9.16.1.4")
  @signed_data signed_data
  @tst_info tst_info
  @attributes ids.([
                {"1.2.840.113549.1.9.3", :content_type},
                {"1.2.840.113549.1.9.4", :message_digest},
                {"1.2.840.113549.1.9.16.2.12", :signing_certificate},
                {"1.2.840.113549.1.9.16.2.47", :signing_certificate_v2}
              ])
  @digests ids.([
             {"2.16.840.1.101.3.4.2.1", :sha256},
             {"2.16.840.1.101.3.4.2.2", :sha384},
             {"2.16.840.1.101.3.4.2.3", :sha512}
           ])
  @signatures ids.([
                {"1.2.840.113549.1.1.1", {:rsa, :any}},
                {"1.2.840.113549.1.1.11", {:rsa, :sha256}},
                {"1.2.840.113549.1.1.12", {:rsa, :sha384}},
                {"1.2.840.113549.1.1.13", {:rsa, :sha512}},
                {"1.2.840.10045.4.3.2", {:ecdsa, :sha256}},
                {"1.2.840.10045.4.3.3", {:ecdsa, :sha384}},
                {"1.2.840.10045.4.3.4", {:ecdsa, :sha512}}
              ])

  @typedoc "What a token says. `time` and `accuracy` are in µs."
  @type said :: %{
          imprint: {atom, binary},
          policy: String.t(),
          serial: non_neg_integer,
          time: integer,
          accuracy: non_neg_integer | nil,
          nonce: integer | nil,
          tsa: binary | nil
        }

  @doc "What it says, and the certificate of who says so with the other certificates in it; raised as `EventSeal.Error` if it does not hold."
  @spec open!(binary) :: {said, Authority.certificate(), [Authority.certificate()]}
  def open!(token) do
    signed = signed!(token)
    said = said!(signed.content)
    certificates = Enum.map(signed.certificates, &Authority.certificate!/1)

    own =
      Enum.find(certificates, &Authority.named?(&1, signed.signer)) || untrusted!("who signed it is not named in it")

    attributes = attributes!(signed.attributes)
    binds!(attributes, signed, own)
    signed!(signed, own)
    if said.tsa && said.tsa != own.subject, do: untrusted!("it names another authority than has signed it")
    {said, own, certificates -- [own]}
  end

  # The structure around what is signed

  defp signed!(token) do
    with [{@oid, @signed_data, _}, {0xA0, content, _}] <- all!(one!(token, @sequence)),
         [{@integer, <<3>>, _}, {@set, digests, _}, {@sequence, content, _} | rest] <- all!(one!(content, @sequence)),
         [{@oid, @tst_info, _}, {0xA0, content, _}] <- all!(content),
         [{0xA0, certificates, _}, {@set, signers, _}] <- Enum.reject(rest, &match?({0xA1, _revocations, _}, &1)),
         [{@sequence, signer, _}] <- all!(signers) do
      content = one!(content, @octets)
      signer = signer!(all!(signer))
      digests = for {@sequence, digest, _} <- all!(digests), do: digest!(digest)
      unless signer.digest in digests, do: malformed!("a digest that is not announced")
      certificates = for {_tag, _contents, whole} <- all!(certificates), do: whole
      Map.merge(signer, %{content: content, certificates: certificates})
    else
      _other -> malformed!("no signed data of one signer with certificates")
    end
  end

  defp signer!([{@integer, version, _}, {tag, who, _}, {@sequence, digest, _} | rest]) do
    with [{0xA0, _, <<_tag, attributes::binary>>}, {@sequence, algorithm, _}, {@octets, signature, _} | unsigned] <-
           rest,
         true <- unsigned == [] or match?([{0xA1, _, _}], unsigned),
         # By issuer and serial number, or by the key's identifier.
         true <- {version, tag} in [{<<1>>, @sequence}, {<<3>>, 0x80}] do
      signer = if tag == 0x80, do: {:key, who}, else: {:issued, who}
      %{signer: signer, digest: digest!(digest), attributes: attributes, algorithm: algorithm, signature: signature}
    else
      _other -> malformed!("no signer with signed attributes")
    end
  end

  defp signer!(_other), do: malformed!("no signer")

  defp digest!(algorithm) do
    case all!(algorithm) do
      [{@oid, id, _} | parameters] when parameters in [[], [{0x05, "", <<5, 0>>}]] ->
        Map.get(@digests, id) || untrusted!("a digest of type #{oid!(id)}")

      _other ->
        malformed!("a digest's parameters")
    end
  end

  # The attributes that are signed

  defp attributes!(<<_::binary>> = set) do
    read = for {@sequence, attribute, _} <- all!(one!(<<@set, set::binary>>, @set)), do: attribute!(all!(attribute))
    types = for {type, _values} <- read, do: type
    if types != Enum.uniq(types), do: malformed!("an attribute that is doubled")
    Map.new(read)
  end

  defp attribute!([{@oid, type, _}, {@set, values, _}]), do: {Map.get(@attributes, type, type), all!(values)}
  defp attribute!(_other), do: malformed!("an attribute")

  # They bind what is said, and the certificate of who says so.
  defp binds!(attributes, signed, own) do
    digest = :crypto.hash(signed.digest, signed.content)

    unless match?(%{content_type: [{@oid, @tst_info, _}]}, attributes),
      do: untrusted!("its signature is of another type of content")

    unless match?(%{message_digest: [{@octets, ^digest, _}]}, attributes),
      do: untrusted!("its signature is of something else")

    bound = for type <- [:signing_certificate, :signing_certificate_v2], value = attributes[type], do: {type, value}
    if bound == [], do: untrusted!("it does not say which certificate it was signed with")
    Enum.each(bound, &bound!(&1, own))
  end

  # The first one that is named must be the signer's.
  defp bound!({type, [{@sequence, signing, _}]}, own) do
    with [{@sequence, ids, _} | _policies] <- all!(signing),
         [{@sequence, id, _} | _others] <- all!(ids),
         {digest, [{@octets, hash, _} | issued]} <- hashed!(type, all!(id)) do
      if hash != :crypto.hash(digest, own.der) or not issued?(issued, own),
        do: untrusted!("it was signed with another certificate than it says")
    else
      _other -> malformed!("a signing certificate")
    end
  end

  defp bound!(_other, _own), do: malformed!("a signing certificate")

  defp hashed!(:signing_certificate, id), do: {:sha, id}
  defp hashed!(:signing_certificate_v2, [{@sequence, digest, _} | id]), do: {digest!(digest), id}
  defp hashed!(:signing_certificate_v2, id), do: {:sha256, id}

  defp issued?([], _own), do: true

  defp issued?([{@sequence, issued, _}], own),
    do: match?([{@sequence, _, _}, {@integer, _, _}], all!(issued)) and Authority.issued?(own, all!(issued))

  defp issued?(_other, _own), do: false

  defp signed!(signed, own) do
    {kind, digest} = algorithm!(all!(signed.algorithm))
    if digest not in [:any, signed.digest], do: malformed!("a signature of another digest")
    message = <<@set, signed.attributes::binary>>

    unless Authority.signed?(own, kind, signed.digest, message, signed.signature),
      do: untrusted!("its signature is wrong")
  end

  defp algorithm!([{@oid, id, _} | parameters]) do
    case {Map.get(@signatures, id), parameters} do
      {{:rsa, _} = known, [{0x05, "", _}]} -> known
      {{_kind, _digest} = known, []} -> known
      {nil, _} -> untrusted!("a signature of type #{oid!(id)}")
      _other -> malformed!("a signature's parameters")
    end
  end

  defp algorithm!(_other), do: malformed!("a signature's type")

  # What is said

  defp said!(info) do
    with [
           {@integer, <<1>>, _},
           {@oid, policy, _},
           {@sequence, imprint, _},
           {@integer, serial, _},
           {0x18, time, _} | rest
         ] <-
           all!(one!(info, @sequence)),
         [{@sequence, digest, _}, {@octets, hash, _}] <- all!(imprint),
         {accuracy, rest} = optional(rest, @sequence),
         {ordering, rest} = optional(rest, 0x01),
         {nonce, rest} = optional(rest, @integer),
         {tsa, rest} = optional(rest, 0xA0),
         {extensions, []} <- optional(rest, 0xA1),
         time = time!(time),
         accuracy = accuracy && accuracy!(all!(accuracy)),
         true <- time + (accuracy || 0) < @latest,
         # The default is not written.
         true <- ordering in [nil, <<0xFF>>] do
      if extensions, do: known!(all!(extensions))

      %{
        imprint: {digest!(digest), hash},
        policy: oid!(policy),
        serial: integer!(serial),
        time: time,
        accuracy: accuracy,
        nonce: nonce && integer!(nonce),
        tsa: tsa && directory_name!(all!(tsa))
      }
    else
      _other -> malformed!("no TSTInfo of version 1")
    end
  end

  defp optional([{tag, contents, _} | rest], tag), do: {contents, rest}
  defp optional(rest, _tag), do: {nil, rest}

  defp accuracy!(parts) do
    with {seconds, parts} = optional(parts, @integer),
         {milliseconds, parts} = optional(parts, 0x80),
         {microseconds, []} <- optional(parts, 0x81),
         [s, ms, us] = Enum.map([seconds, milliseconds, microseconds], &integer!(&1 || <<0>>)),
         true <- s >= 0 and ms in 0..999 and us in 0..999 do
      (s * 1_000 + ms) * 1_000 + us
    else
      _other -> malformed!("an accuracy")
    end
  end

  defp directory_name!([{0xA4, name, _}]), do: name
  defp directory_name!(_other), do: untrusted!("it names its authority otherwise than by a directory name")

  # No extension is known, so none may be that has to be.
  defp known!(extensions) do
    for {@sequence, extension, _} <- extensions, {0x01, _critical, _} <- all!(extension) do
      untrusted!("a critical extension that is not known")
    end
  end

  @spec untrusted!(String.t()) :: no_return
  defp untrusted!(why), do: raise(Error.new(:untrusted, detail: "the time stamp: " <> why))
end
