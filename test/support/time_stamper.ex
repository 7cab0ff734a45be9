defmodule EventSeal.TimeStamper do
  @moduledoc false
  # Authorities made by `openssl`, each in a folder of its own: certificates, time stamps by `openssl ts`, and what that would
  # not sign by `openssl cms`.

  @usage "extendedKeyUsage = critical, timeStamping\nkeyUsage = critical, digitalSignature"
  @policy "1.2.3.4.1"

  @doc "The policy that it stamps under; 1.2.3.4.5 is another one that it knows."
  def policy, do: @policy

  @doc """
  Makes a certificate and its key, `:rsa` or `:ecdsa`; `issuer` is another one, nil for a root. Options: `:extensions` (of a
  time-stamp authority unless given; `:ca`), `:from` and `:to` (`YYYYMMDDHHMMSSZ`).
  """
  def certificate!(dir, name, kind, issuer, opts \\ []) do
    File.mkdir_p!(dir)

    own = %{
      name: name,
      dir: dir,
      cert: Path.join(dir, name <> ".pem"),
      key: Path.join(dir, name <> ".key"),
      issuer: issuer
    }

    request = Path.join(dir, name <> ".csr")

    openssl!(
      ["req", "-new", "-nodes", "-newkey"] ++
        key(kind) ++ ["-keyout", own.key, "-out", request, "-subj", "/O=Clinic/CN=#{name}"]
    )

    sign!(own, issuer || own, request, extensions(opts[:extensions] || @usage), opts)
    own
  end

  defp key(:rsa), do: ["rsa:2048"]
  defp key(:ecdsa), do: ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

  defp extensions(:ca), do: "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign"
  defp extensions(text), do: text

  defp sign!(own, issuer, request, extensions, opts) do
    [conf, index, serial] = for end_ <- ~w(.conf .index .srl), do: Path.join(own.dir, own.name <> end_)
    File.write!(index, "")
    File.write!(serial, Base.encode16(:crypto.strong_rand_bytes(8)) |> String.replace_prefix("", "01"))

    File.write!(conf, """
    [own]
    database = #{index}
    serial = #{serial}
    new_certs_dir = #{own.dir}
    default_md = #{opts[:digest] || "sha256"}
    policy = policy
    unique_subject = no
    x509_extensions = extensions
    [policy]
    organizationName = optional
    commonName = supplied
    [extensions]
    subjectKeyIdentifier = hash
    #{extensions}
    """)

    by = if issuer == own, do: ["-selfsign"], else: ["-cert", issuer.cert]
    dates = ["-startdate", opts[:from] || "20200101000000Z", "-enddate", opts[:to] || "20990101000000Z"]

    openssl!(
      [
        "ca",
        "-batch",
        "-notext",
        "-config",
        conf,
        "-name",
        "own",
        "-in",
        request,
        "-out",
        own.cert,
        "-keyfile",
        issuer.key
      ] ++
        by ++ dates
    )
  end

  @doc "The answer of `openssl ts` to a request. Options: `:settings` (lines of its configuration), `:with` (certificates that go along)."
  def reply!(own, request, opts \\ []) do
    [query, reply, conf, serial, along] =
      for end_ <- ~w(.tsq .tsr .tsa .serial .along), do: Path.join(own.dir, own.name <> end_)

    File.write!(query, request)
    File.write!(serial, "01")
    File.write!(along, Enum.map(opts[:with] || [], &File.read!(&1.cert)))

    File.write!(conf, """
    [tsa]
    default_tsa = own
    [own]
    serial = #{serial}
    signer_cert = #{own.cert}
    signer_key = #{own.key}
    #{if opts[:with], do: "certs = " <> along}
    default_policy = #{@policy}
    other_policies = 1.2.3.4.5
    digests = sha256, sha384, sha512
    #{opts[:settings] || "signer_digest = sha256\ness_cert_id_alg = sha256\naccuracy = secs:1, millisecs:500, microsecs:100\ntsa_name = yes"}
    """)

    openssl!(["ts", "-reply", "-config", conf, "-queryfile", query, "-out", reply])
    File.read!(reply)
  end

  @doc "What a response holds: `:tst_info`, or the whole `:token`."
  def part!(own, response, :token) do
    [reply, token] = for end_ <- ~w(.in .token), do: Path.join(own.dir, own.name <> end_)
    File.write!(reply, response)
    openssl!(["ts", "-reply", "-in", reply, "-token_out", "-out", token])
    File.read!(token)
  end

  def part!(own, response, :tst_info) do
    [token, info] = for end_ <- ~w(.token .info), do: Path.join(own.dir, own.name <> end_)
    File.write!(token, part!(own, response, :token))
    openssl!(["cms", "-verify", "-noverify", "-nosigs", "-inform", "DER", "-in", token, "-out", info, "-binary"])
    File.read!(info)
  end

  @doc "Signs a TSTInfo, or anything else, as a token, whatever the certificate is for. `args` are more arguments of `openssl cms`."
  def token!(own, info, args) do
    [content, token] = for end_ <- ~w(.content .cms), do: Path.join(own.dir, own.name <> end_)
    File.write!(content, info)

    openssl!(
      ["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", content, "-out", token] ++
        ["-signer", own.cert, "-inkey", own.key] ++
        unless("-md" in args, do: ["-md", "sha256"], else: []) ++
        unless("-econtent_type" in args, do: ["-econtent_type", "1.2.840.113549.1.9.16.1.4"], else: []) ++ args
    )

    File.read!(token)
  end

  @doc "A response that grants a token."
  def granted(token) do
    status = <<0x30, 3, 2, 1, 0>>
    EventSeal.Stamp.Der.value(0x30, [status, token])
  end

  @doc "What `openssl ts` says of a token and the digest that it should be of: whether it verifies under a root."
  def verifies?(root, others, token, digest) do
    [path, along] = for end_ <- ~w(.checked .checked-along), do: Path.join(root.dir, root.name <> end_)
    File.write!(path, token)
    File.write!(along, Enum.map(others, &File.read!(&1.cert)))

    args = [
      "ts",
      "-verify",
      "-digest",
      Base.encode16(digest, case: :lower),
      "-in",
      path,
      "-token_in",
      "-CAfile",
      root.cert
    ]

    untrusted = if others == [], do: [], else: ["-untrusted", along]
    match?({_, 0}, System.cmd("openssl", args ++ untrusted, stderr_to_stdout: true))
  end

  defp openssl!(args) do
    case System.cmd("openssl", args, stderr_to_stdout: true) do
      {_said, 0} -> :ok
      {said, status} -> raise("openssl #{Enum.join(args, " ")} ended with #{status}: #{said}")
    end
  end
end
