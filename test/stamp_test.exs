defmodule EventSeal.StampTest do
  # Time stamps against a real authority, `openssl ts`, and against what it would never sign.
  use ExUnit.Case, async: true

  alias EventSeal.{Error, Signer, Stamp, TimeStamper}
  alias EventSeal.Stamp.Der

  setup_all do
    dir = Path.join(System.tmp_dir!(), "event_seal_stamps_#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm_rf!(dir) end)
    File.mkdir_p!(dir)
    {:ok, _key} = Signer.File.generate(Path.join(dir, "log.key"), "clinic.example/log")
    {:ok, signer} = Signer.open(Signer.File, Path.join(dir, "log.key"))
    {:ok, %{note: note}} = Signer.checkpoint(signer, 5, <<7::256>>)
    {:ok, %{note: other}} = Signer.checkpoint(signer, 6, <<7::256>>)

    authorities =
      for kind <- [:rsa, :ecdsa], into: %{} do
        [root, mid, tsa] = chain(Path.join(dir, to_string(kind)), kind)
        {kind, %{root: root, mid: mid, tsa: tsa}}
      end

    Map.merge(%{dir: dir, note: note, other: other}, authorities)
  end

  defp chain(dir, kind) do
    root = TimeStamper.certificate!(dir, "Root", kind, nil, extensions: :ca)
    mid = TimeStamper.certificate!(dir, "Middle", kind, root, extensions: :ca)
    [root, mid, TimeStamper.certificate!(dir, "Stamps", kind, mid)]
  end

  defp request(note, policy \\ nil) do
    {:ok, request} = Stamp.request(note, policy)
    {:ok, asked} = Stamp.asked(request)
    {request, asked}
  end

  defp why({:error, %Error{reason: reason} = error}), do: {reason, Exception.message(error)}

  for kind <- [:rsa, :ecdsa] do
    test "an answer of an authority with #{kind} holds, and openssl says so too", context do
      %{root: root, mid: mid, tsa: tsa} = context[unquote(kind)]
      {request, asked} = request(context.note)
      response = TimeStamper.reply!(tsa, request, with: [mid])
      assert {:ok, {token, stamp}} = Stamp.answer(response, asked, context.note, root.cert)

      assert %Stamp{size: 5, accuracy: 1_500_100, authority: "CN=Stamps, O=Clinic", anchor: "CN=Root, O=Clinic"} = stamp
      assert stamp.policy == TimeStamper.policy()
      assert abs(stamp.time - System.os_time(:microsecond)) < 600_000_000
      assert token == TimeStamper.part!(tsa, response, :token)
      assert TimeStamper.verifies?(root, [mid], token, Stamp.digest(context.note))
      note = context.note <> Stamp.line(token)
      assert {:ok, [^stamp]} = Stamp.verify(note, root.cert)
      # Who is trusted may be any certificate on the way; nobody need be asked.
      assert {:ok, [%{anchor: "CN=Middle, O=Clinic"}]} = Stamp.verify(note, mid.cert)
      assert {:ok, [%{anchor: "CN=Stamps, O=Clinic"}]} = Stamp.verify(note, tsa.cert)
      assert {:ok, [%{anchor: nil}]} = Stamp.verify(note, nil)
      assert {:ok, []} = Stamp.verify(context.note, root.cert)
    end
  end

  test "other digests and older names of the certificate hold too", %{rsa: rsa, ecdsa: ecdsa, note: note} do
    for %{root: root, mid: mid, tsa: tsa} <- [rsa, ecdsa],
        settings <- [
          "signer_digest = sha512\ness_cert_id_alg = sha1",
          "signer_digest = sha384\ness_cert_id_alg = sha512"
        ] do
      {request, asked} = request(note)
      response = TimeStamper.reply!(tsa, request, with: [mid], settings: settings)
      assert {:ok, {_token, %{accuracy: nil}}} = Stamp.answer(response, asked, note, root.cert)
    end
  end

  test "a policy that is asked for must be the one", %{ecdsa: %{root: root, mid: mid, tsa: tsa}, note: note} do
    {request, asked} = request(note, "1.2.3.4.5")
    response = TimeStamper.reply!(tsa, request, with: [mid])
    assert {:ok, {_token, %{policy: "1.2.3.4.5"}}} = Stamp.answer(response, asked, note, root.cert)
    other = Stamp.answer(response, %{asked | policy: "1.2.3.4.1"}, note, root.cert)
    assert {:untrusted, text} = why(other)
    assert text =~ "another policy"

    # The authority refuses one that it does not know.
    {request, asked} = request(note, "1.2.3.4.9")
    refused = TimeStamper.reply!(tsa, request)
    assert {:untrusted, text} = refused |> Stamp.answer(asked, note, root.cert) |> why()
    assert text =~ "has not granted it: status 2"

    for bad <- ["", "1", "1.2", "1.40.1", "3.1.1", "1.2.03", "1.2.3.", "x"],
        do: assert({:error, %Error{reason: :invalid}} = Stamp.request(note, bad))
  end

  test "another digest and another nonce are refused", %{ecdsa: %{root: root, mid: mid, tsa: tsa}} = context do
    {request, asked} = request(context.note)
    {_request, again} = request(context.note)
    response = TimeStamper.reply!(tsa, request, with: [mid])
    assert {:untrusted, text} = response |> Stamp.answer(again, context.note, root.cert) |> why()
    assert text =~ "another request"
    assert {:untrusted, text} = response |> Stamp.answer(asked, context.other, root.cert) |> why()
    assert text =~ "something else than this checkpoint"
  end

  test "another authority, or a way that is not there, is refused", %{rsa: rsa, ecdsa: ecdsa, note: note, dir: dir} do
    {request, asked} = request(note)
    response = TimeStamper.reply!(rsa.tsa, request, with: [rsa.mid])
    alike = TimeStamper.certificate!(Path.join(dir, "alike"), "Root", :rsa, nil, extensions: :ca)

    for anchors <- [ecdsa.root.cert, alike.cert] do
      assert {:untrusted, text} = response |> Stamp.answer(asked, note, anchors) |> why()
      assert text =~ "leads to none that is trusted"
    end

    without = TimeStamper.reply!(rsa.tsa, request)
    assert {:untrusted, _} = without |> Stamp.answer(asked, note, rsa.root.cert) |> why()
    assert {:ok, _} = Stamp.answer(without, asked, note, rsa.mid.cert)
    assert {:invalid, _} = response |> Stamp.answer(asked, note, rsa.root.key) |> why()
    assert {:storage, _} = response |> Stamp.answer(asked, note, Path.join(dir, "none")) |> why()
  end

  describe "a certificate" do
    test "that was not valid then is refused, wherever it stands; one that has expired since is not", context do
      %{note: note, dir: dir} = context
      past = [from: "20190101000000Z", to: "20210101000000Z"]

      for {name, dates, why} <- [
            {"leaf", {[], [], past}, "not valid at the time"},
            {"middle", {[], past, []}, "not valid at the time"},
            {"root", {past, [], []}, "not valid at the time"}
          ] do
        {root, middle, leaf} = dates
        dir = Path.join(dir, "past_" <> name)
        root = TimeStamper.certificate!(dir, "Root", :ecdsa, nil, [extensions: :ca] ++ root)
        mid = TimeStamper.certificate!(dir, "Middle", :ecdsa, root, [extensions: :ca] ++ middle)
        tsa = TimeStamper.certificate!(dir, "Stamps", :ecdsa, mid, leaf)
        {request, asked} = request(note)
        response = TimeStamper.reply!(tsa, request, with: [mid])
        assert {:untrusted, text} = response |> Stamp.answer(asked, note, root.cert) |> why()
        assert text =~ why, name
      end

      # The time of the stamp counts: here it is of 2020, when all of these were valid.
      dir = Path.join(dir, "then")
      root = TimeStamper.certificate!(dir, "Root", :ecdsa, nil, [extensions: :ca] ++ past)
      tsa = TimeStamper.certificate!(dir, "Stamps", :ecdsa, root, past)
      {request, asked} = request(note)
      info = TimeStamper.part!(tsa, TimeStamper.reply!(tsa, request), :tst_info)
      [_, rest] = Regex.run(~r/\A(?:.*)\x18\x0f\d{14}Z(.*)\z/s, info)
      then = binary_part(info, 0, byte_size(info) - byte_size(rest) - 15) <> "20200601120000Z" <> rest
      token = TimeStamper.token!(tsa, then, ["-cades"])
      assert {:ok, {_token, %{time: 1_591_012_800_000_000}}} = answer(token, asked, note, root)
    end

    test "for other purposes is refused", %{note: note, dir: dir, ecdsa: %{root: root}} do
      dir = Path.join(dir, "usage")

      for {extensions, number} <-
            Enum.with_index([
              "keyUsage = critical, digitalSignature",
              "extendedKeyUsage = timeStamping\nkeyUsage = critical, digitalSignature",
              "extendedKeyUsage = critical, timeStamping, emailProtection",
              "extendedKeyUsage = critical, serverAuth",
              "extendedKeyUsage = critical, timeStamping\nkeyUsage = critical, keyCertSign",
              "extendedKeyUsage = critical, timeStamping\nkeyUsage = critical, digitalSignature, keyEncipherment"
            ]) do
        tsa = TimeStamper.certificate!(dir, "Stamps#{number}", :ecdsa, root, extensions: extensions)
        {asked, token} = signed(tsa, note, dir, root)
        assert {:untrusted, text} = token |> answer(asked, note, root) |> why()
        assert text =~ "not for time stamping alone" or text =~ "for something else than signing", extensions
      end
    end

    test "of an issuer that may sign none, or for other purposes, is refused", %{
      note: note,
      dir: dir,
      ecdsa: %{root: root}
    } do
      dir = Path.join(dir, "issuers")
      no_ca = TimeStamper.certificate!(dir, "NoCA", :ecdsa, root, extensions: "basicConstraints = critical, CA:FALSE")

      signs_nothing =
        TimeStamper.certificate!(dir, "Nothing", :ecdsa, root,
          extensions: "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, cRLSign"
        )

      for_web =
        TimeStamper.certificate!(dir, "Web", :ecdsa, root,
          extensions:
            "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\nextendedKeyUsage = serverAuth"
        )

      strange =
        TimeStamper.certificate!(dir, "Strange", :ecdsa, root,
          extensions:
            "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n1.2.3.4 = critical, ASN1:NULL"
        )

      for_stamps =
        TimeStamper.certificate!(dir, "For", :ecdsa, root,
          extensions:
            "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\nextendedKeyUsage = timeStamping"
        )

      broken = TimeStamper.certificate!(dir, "Broken", :ecdsa, root, extensions: :ca, digest: "sha1")

      for {issuer, why} <- [
            {no_ca, "no issuer's"},
            {signs_nothing, "no issuer's"},
            {for_web, ":extended_key_usage"},
            {strange, "unknown_critical_extension"},
            {broken, "broken digest"}
          ] do
        tsa = TimeStamper.certificate!(dir, "Under" <> issuer.name, :ecdsa, issuer)
        {request, asked} = request(note)
        response = TimeStamper.reply!(tsa, request, with: [issuer])
        assert {:untrusted, text} = response |> Stamp.answer(asked, note, root.cert) |> why()
        assert text =~ why
      end

      tsa = TimeStamper.certificate!(dir, "UnderFor", :ecdsa, for_stamps)
      {request, asked} = request(note)
      assert {:ok, _} = tsa |> TimeStamper.reply!(request, with: [for_stamps]) |> Stamp.answer(asked, note, root.cert)
    end
  end

  # What an authority would say, signed by another.
  defp signed(tsa, note, dir, root, args \\ ["-cades"]) do
    honest = TimeStamper.certificate!(dir, "Honest#{System.unique_integer([:positive])}", :ecdsa, root)
    {request, asked} = request(note)
    info = TimeStamper.part!(honest, TimeStamper.reply!(honest, request), :tst_info)
    # It does not name the one who is to sign now.
    {asked, TimeStamper.token!(tsa, without_name(info), args)}
  end

  defp without_name(info) do
    values = Der.all!(Der.one!(info, 0x30))
    Der.value(0x30, for({tag, _, whole} <- values, tag != 0xA0, do: whole))
  end

  defp answer(token, asked, note, anchor), do: token |> TimeStamper.granted() |> Stamp.answer(asked, note, anchor.cert)

  describe "a token" do
    test "that names another authority than has signed it is refused", %{
      ecdsa: %{root: root, tsa: tsa, mid: mid},
      note: note,
      dir: dir
    } do
      other = TimeStamper.certificate!(Path.join(dir, "names"), "Other", :ecdsa, root)
      {request, asked} = request(note)
      info = TimeStamper.part!(tsa, TimeStamper.reply!(tsa, request, with: [mid]), :tst_info)
      assert {:untrusted, text} = other |> TimeStamper.token!(info, ["-cades"]) |> answer(asked, note, root) |> why()
      assert text =~ "names another authority"
    end

    test "without what binds its certificate, its content or its type is refused", %{
      ecdsa: %{root: root},
      note: note,
      dir: dir
    } do
      dir = Path.join(dir, "bound")
      tsa = TimeStamper.certificate!(dir, "Stamps", :ecdsa, root)

      for {args, why} <- [
            {[], "does not say which certificate"},
            {["-noattr"], "no signer with signed attributes"},
            {["-cades", "-econtent_type", "1.2.840.113549.1.7.1"], "no signed data"},
            {["-cades", "-nocerts"], "no signed data"}
          ] do
        {asked, token} = signed(tsa, note, dir, root, args)
        assert {_reason, text} = token |> answer(asked, note, root) |> why()
        assert text =~ why
      end

      {asked, token} = signed(tsa, note, dir, root, ["-cades", "-keyid"])
      assert {:ok, _} = answer(token, asked, note, root)
      {asked, token} = signed(tsa, note, dir, root, ["-cades", "-md", "sha1"])
      assert {:untrusted, text} = token |> answer(asked, note, root) |> why()
      assert text =~ "1.3.14.3.2.26"
    end

    test "of a time that no date is, or of an accuracy that is none, is refused", context do
      %{ecdsa: %{root: root}, note: note, dir: dir} = context
      dir = Path.join(dir, "times")
      tsa = TimeStamper.certificate!(dir, "Stamps", :ecdsa, root, to: "99991231235959Z")
      {request, asked} = request(note)
      info = without_name(TimeStamper.part!(tsa, TimeStamper.reply!(tsa, request), :tst_info))

      for {time, accuracy, holds} <- [
            {"20260101000000Z", Der.value(0x30, Der.integer(90)), true},
            {"20260101000000.25Z", "", true},
            {"20260101000000Z", Der.value(0x30, <<0x80, 1, 0>>), true},
            {"20260101000000.50Z", "", false},
            {"20260101000000Z", Der.value(0x30, Der.integer(2 ** 40)), false},
            {"20260101000000Z", Der.value(0x30, <<0x02, 1, 0xFF>>), false},
            {"20260101000000Z", Der.value(0x30, <<0x80, 2, 3, 0xE8>>), false},
            {"99991231235959Z", Der.value(0x30, Der.integer(1)), false}
          ] do
        forged =
          for {tag, _, whole} <- Der.all!(Der.one!(info, 0x30)), tag not in [0x18, 0xFF] do
            whole
          end

        [version, policy, imprint, serial, _accuracy | rest] = forged
        at = Der.value(0x18, time)
        info = Der.value(0x30, [version, policy, imprint, serial, at, accuracy | rest])
        outcome = tsa |> TimeStamper.token!(info, ["-cades"]) |> answer(asked, note, root)
        assert match?({:ok, _}, outcome) == holds, inspect({time, accuracy, outcome})
        with {:ok, {_token, stamp}} <- outcome, do: assert(Stamp.to_line(stamp) =~ "existed before 2026-01-01 00:0")
      end
    end

    test "of two signers is refused", %{ecdsa: %{root: root}, note: note, dir: dir} do
      dir = Path.join(dir, "two")
      [one, two] = for name <- ["One", "Two"], do: TimeStamper.certificate!(dir, name, :ecdsa, root)
      {asked, token} = signed(one, note, dir, root, ["-cades", "-signer", two.cert, "-inkey", two.key])
      assert {:malformed, text} = token |> answer(asked, note, root) |> why()
      assert text =~ "one signer"
    end
  end

  test "a response that ends anywhere too soon, or goes on, is malformed", %{
    ecdsa: %{root: root, mid: mid, tsa: tsa},
    note: note
  } do
    {request, asked} = request(note)
    response = TimeStamper.reply!(tsa, request, with: [mid])

    for length <- 0..(byte_size(response) - 1) do
      assert {:malformed, _} = response |> binary_part(0, length) |> Stamp.answer(asked, note, root.cert) |> why()
    end

    assert {:malformed, _} = (response <> <<0>>) |> Stamp.answer(asked, note, root.cert) |> why()
    {:ok, {token, _}} = Stamp.answer(response, asked, note, root.cert)
    assert {:malformed, _} = Stamp.verify(note <> Stamp.line(token <> <<0>>), root.cert) |> why()
  end

  for kind <- [:rsa, :ecdsa] do
    test "no byte of a response with #{kind} can be another one", context do
      %{root: root, mid: mid, tsa: tsa} = context[unquote(kind)]
      {request, asked} = request(context.note)
      response = TimeStamper.reply!(tsa, request, with: [mid])
      {:ok, trusted} = Stamp.trusted(root.cert)
      assert {:ok, _} = Stamp.answer(response, asked, context.note, Enum.map(trusted, & &1.der))

      passed =
        for at <- 0..(byte_size(response) - 1),
            flip <- [0x01, 0x80, 0xFF],
            passes?(response, at, flip, asked, context.note, trusted),
            do: {at, flip}

      assert passed == []
    end
  end

  defp passes?(response, at, flip, asked, note, trusted) do
    <<before::binary-size(at), byte, rest::binary>> = response
    flipped = <<before::binary, Bitwise.bxor(byte, flip), rest::binary>>
    match?({:ok, _}, Stamp.answer(flipped, asked, note, Enum.map(trusted, & &1.der)))
  end

  test "a note with a stamp that does not hold is not believed, nor one whose line is another's",
       %{ecdsa: ecdsa} = context do
    {request, asked} = request(context.note)
    response = TimeStamper.reply!(ecdsa.tsa, request, with: [ecdsa.mid])
    {:ok, {token, _}} = Stamp.answer(response, asked, context.note, ecdsa.root.cert)
    assert {:untrusted, _} = Stamp.verify(context.other <> Stamp.line(token), ecdsa.root.cert) |> why()
    assert {:malformed, _} = Stamp.verify(context.note <> Stamp.line("none"), nil) |> why()
    assert Stamp.tokens(context.note <> Stamp.line(token)) == [token]
    assert Stamp.tokens(context.note <> "— event-seal/rfc3161 #{Base.encode64("1234" <> token)}\n") == []
  end
end
