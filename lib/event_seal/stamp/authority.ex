defmodule EventSeal.Stamp.Authority do
  @moduledoc false
  # Who stamps: a certificate made for that and for nothing else, valid at the time of the stamp, which leads to one that the
  # caller trusts. OTP's `public_key` reads certificates and validates paths; where it asks for the clock of now, the stamp's
  # time is taken: a stamp outlives its authority's certificate. Nothing is asked of revocations.

  alias EventSeal.Error
  alias EventSeal.Stamp.Der

  @extended_key_usage {2, 5, 29, 37}
  @key_usage {2, 5, 29, 15}
  @basic_constraints {2, 5, 29, 19}
  @time_stamping {1, 3, 6, 1, 5, 5, 7, 3, 8}
  @any_usage {2, 5, 29, 37, 0}
  @subject_key {2, 5, 29, 14}
  # MD5 and SHA-1 with RSA, DSA and ECDSA: certificates signed so can be made to say something else.
  @weak [{1, 2, 840, 113_549, 1, 1, 4}, {1, 2, 840, 113_549, 1, 1, 5}] ++
          [{1, 3, 14, 3, 2, 29}, {1, 2, 840, 10_040, 4, 3}, {1, 2, 840, 10_045, 4, 1}]
  @longest 8

  @typedoc "`read` is what `public_key` makes of it; `serial`, `issuer` and `subject` are its bytes."
  @type certificate :: %{der: binary, read: tuple, serial: binary, issuer: binary, subject: binary}

  @doc "A certificate by its DER; raised as `:malformed` if it is none."
  @spec certificate!(binary) :: certificate
  def certificate!(der) do
    with [{0x30, body, _}, {0x30, _, algorithm}, {0x03, _, _}] <- Der.all!(Der.one!(der, 0x30)),
         [{0xA0, _version, _}, {0x02, _, serial}, {0x30, _, ^algorithm}, {0x30, _, issuer}, _, {0x30, _, subject} | _] <-
           Der.all!(body) do
      %{der: der, read: read!(der), serial: serial, issuer: issuer, subject: subject}
    else
      _other -> Der.malformed!("a certificate")
    end
  end

  # However it fails, it is no certificate.
  defp read!(der) do
    :public_key.pkix_decode_cert(der, :otp)
  rescue
    _any -> Der.malformed!("a certificate")
  catch
    _kind, _any -> Der.malformed!("a certificate")
  end

  @doc "Whether a SignerInfo's name is the certificate's: its issuer and serial number, or its key's identifier."
  @spec named?(certificate, {:issued | :key, binary}) :: boolean
  def named?(certificate, {:issued, who}), do: who == certificate.issuer <> certificate.serial
  def named?(certificate, {:key, id}), do: match?({_critical, ^id}, extension(certificate, @subject_key))

  @doc "Whether an IssuerSerial, by its two values, is the certificate's."
  @spec issued?(certificate, [Der.value()]) :: boolean
  def issued?(certificate, [{_, names, _}, {_, _, serial}]),
    do:
      match?([{0xA4, _, _}], Der.all!(names)) and Der.one!(names, 0xA4) == certificate.issuer and
        serial == certificate.serial

  @doc "Whether the signature of a message is the certificate's, by a key of this kind."
  @spec signed?(certificate, :rsa | :ecdsa, atom, binary, binary) :: boolean
  def signed?(certificate, kind, digest, message, signature) do
    case {kind, key(certificate)} do
      {:rsa, {:RSAPublicKey, _, _} = key} -> :public_key.verify(message, digest, signature, key)
      {:ecdsa, {{:ECPoint, _}, _} = key} -> :public_key.verify(message, digest, signature, key)
      _other -> false
    end
  end

  defp key(%{read: {:OTPCertificate, tbs, _, _}}) do
    {:OTPSubjectPublicKeyInfo, {:PublicKeyAlgorithm, _type, parameters}, key} = elem(tbs, 7)
    if match?({:ECPoint, _}, key), do: {key, parameters}, else: key
  end

  @doc """
  The subject of the anchor that the certificate leads to, by way of others that came with it; nil where no anchors are given.
  Raised as `:untrusted` if it leads to none, or was not made for stamping, or not for that time.
  """
  @spec trusted!(certificate, [certificate], [certificate] | nil, integer) :: String.t() | nil
  def trusted!(certificate, others, anchors, time) do
    stamping!(certificate)
    valid!(certificate, time)
    anchors && anchored!(certificate, others, anchors, time)
  end

  # For stamping alone: extendedKeyUsage critical and of one purpose (RFC 3161, section 2.3).
  defp stamping!(certificate) do
    unless extension(certificate, @extended_key_usage) == {true, [@time_stamping]},
      do: untrusted!("its authority's certificate is not for time stamping alone")

    case extension(certificate, @key_usage) do
      nil -> :ok
      {_critical, [_ | _] = uses} -> if uses -- [:digitalSignature, :nonRepudiation] != [], do: other_use!()
      _none -> other_use!()
    end
  end

  @spec other_use! :: no_return
  defp other_use!, do: untrusted!("its authority's key is for something else than signing")

  defp anchored!(certificate, others, anchors, time) do
    {anchor, path} = path!(certificate, others, anchors, [certificate])
    Enum.each([anchor | path], &valid!(&1, time))

    if Enum.any?(path -- [anchor], &(elem(elem(&1.read, 2), 1) in @weak)),
      do: untrusted!("a certificate on the way to what is trusted is signed with a broken digest")

    [anchor | path] |> List.delete(certificate) |> Enum.each(&issuing!/1)
    validated!(anchor, path)
    subject(anchor)
  end

  # OTP lets one pass that says that it is none, if it says nothing of what its key is for.
  defp issuing!(issuer) do
    uses = extension(issuer, @key_usage)

    unless match?({_, {:BasicConstraints, true, _}}, extension(issuer, @basic_constraints)) and
             (uses == nil or :keyCertSign in elem(uses, 1)),
           do: untrusted!("a certificate on the way to what is trusted is no issuer's")
  end

  # From below: at each step a trusted certificate, else one that came along and has signed the one below.
  defp path!(certificate, others, anchors, path) do
    issuer = fn all -> Enum.find(all, &issuer?(&1, certificate)) end

    cond do
      certificate in anchors -> {certificate, tl(path)}
      anchor = issuer.(anchors) -> {anchor, path}
      length(path) > @longest -> untrusted!("its authority's certificate leads to none that is trusted")
      next = issuer.(others) -> path!(next, others -- [next], anchors, [next | path])
      true -> untrusted!("its authority's certificate leads to none that is trusted")
    end
  end

  defp issuer?(issuer, certificate) do
    issuer.subject == certificate.issuer and issuer.der != certificate.der and
      :public_key.pkix_verify(certificate.der, key(issuer))
  rescue
    # A key or a signature of a kind that cannot go together.
    _any -> false
  end

  defp validated!(_anchor, []), do: :ok

  defp validated!(anchor, path) do
    case :public_key.pkix_path_validation(anchor.read, Enum.map(path, & &1.der), verify_fun: {&judge/3, nil}) do
      {:ok, _key_and_policies} -> :ok
      {:error, {:bad_cert, why}} -> untrusted!("a certificate on the way to what is trusted: #{inspect(why)}")
    end
  end

  # The stamp's time counts, not that of now.
  defp judge(_certificate, {:bad_cert, :cert_expired}, state), do: {:valid, state}
  defp judge(_certificate, {:bad_cert, why}, _state), do: {:fail, why}

  # Whose issuer may sign certificates for other purposes alone may not for this one.
  defp judge(_certificate, {:extension, {:Extension, @extended_key_usage, _critical, uses}}, state) do
    if @time_stamping in uses or @any_usage in uses, do: {:valid, state}, else: {:fail, :extended_key_usage}
  end

  defp judge(_certificate, {:extension, _other}, state), do: {:unknown, state}
  defp judge(_certificate, _valid, state), do: {:valid, state}

  defp valid!(%{read: {:OTPCertificate, tbs, _, _}}, time) do
    {:Validity, from, to} = elem(tbs, 5)

    unless time >= at(from) and time < at(to) + 1_000_000,
      do: untrusted!("a certificate was not valid at the time that it says")
  end

  defp at({:generalTime, text}), do: text |> to_string() |> Der.time!()

  # Years of two digits are 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
  defp at({:utcTime, text}) do
    text = to_string(text)
    Der.time!(if(text < "50", do: "20", else: "19") <> text)
  end

  defp extension(%{read: {:OTPCertificate, tbs, _, _}}, id) do
    extensions = elem(tbs, 10)
    found = if is_list(extensions), do: for({:Extension, ^id, critical, value} <- extensions, do: {critical, value})
    if match?([_], found), do: hd(found)
  end

  @doc "A certificate's subject, `CN=…, O=…`, without control characters."
  @spec subject(certificate) :: String.t()
  def subject(%{read: {:OTPCertificate, tbs, _, _}}) do
    {:rdnSequence, names} = elem(tbs, 6)

    for(name <- names, {:AttributeTypeAndValue, type, value} <- name, do: {type, value})
    |> Enum.reverse()
    |> Enum.map_join(", ", fn {type, value} -> name(type) <> "=" <> text(value) end)
  end

  defp name({2, 5, 4, 3}), do: "CN"
  defp name({2, 5, 4, 6}), do: "C"
  defp name({2, 5, 4, 7}), do: "L"
  defp name({2, 5, 4, 8}), do: "ST"
  defp name({2, 5, 4, 10}), do: "O"
  defp name({2, 5, 4, 11}), do: "OU"
  defp name(other), do: other |> Tuple.to_list() |> Enum.join(".")

  defp text({_form, value}), do: text(value)

  defp text(value) do
    text = if is_list(value), do: List.to_string(value), else: value
    if String.valid?(text), do: String.replace(text, ~r/[\x00-\x1f\x7f-\x{9f}]/u, "?"), else: Base.encode16(text)
  end

  @spec untrusted!(String.t()) :: no_return
  defp untrusted!(why), do: raise(Error.new(:untrusted, detail: "the time stamp: " <> why))
end
