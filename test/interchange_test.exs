defmodule EventSeal.InterchangeTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Error, Fault, Interchange, Native, Verdict}

  @vectors Path.expand("vectors", __DIR__)

  test "a changed file gets a verdict that names flow, position, block, class and both digests" do
    file = File.read!(Path.join(@vectors, "blake3-12.jsonl"))
    [flow] = Regex.run(~r/"flow":"([^"]+)"/, file, capture: :all_but_first)
    [hash] = Regex.run(~r/\n{"n":2,.*"hash":"([0-9a-f]{64})"/, file, capture: :all_but_first)
    forged = String.duplicate("0", 64)

    assert {:ok, verdict} =
             file |> String.replace("\"hash\":\"#{hash}\"", "\"hash\":\"#{forged}\"") |> Interchange.verify()

    assert [%Fault{} = fault] = verdict.faults
    assert {fault.flow, fault.position, fault.block, fault.class} == {flow, 2, 0, :event_hash}
    assert fault.recorded == <<0::256>>
    assert fault.recomputed == Base.decode16!(hash, case: :lower)
    refute Verdict.ok?(verdict)
  end

  test "what is no file of the form is a fault too" do
    for text <- ["", "x", "{}\n", <<0xFF>>, String.duplicate("[", 100_000)] do
      assert {:ok, %Verdict{fault_count: 1, faults: [%Fault{class: :format, position: 1}]}} = Interchange.verify(text)
    end
  end

  test "the verdict is the same with one thread as with many" do
    file = File.read!(Path.join(@vectors, "sha256-40.jsonl"))
    changed = String.replace(file, "\"version\":1,", "\"version\":7,")
    assert {:ok, one} = Interchange.verify(changed, threads: 1)
    assert {:ok, many} = Interchange.verify(changed, threads: 7)
    assert one.fault_count > 1
    assert %{one | microseconds: 0} == %{many | microseconds: 0}
  end

  test "files are verified together, and one that cannot be read is an error" do
    paths = Path.wildcard(Path.join(@vectors, "*.jsonl"))
    assert {:ok, verdict} = Interchange.verify_files(paths)
    assert {verdict.flows, verdict.fault_count} == {length(paths), 0}
    assert {:error, %Error{reason: :not_found}} = Interchange.verify_files([Path.join(@vectors, "none.jsonl")])
  end

  test "every line of the sample hospital can be imported" do
    lines =
      "../samples/movements.jsonl"
      |> Path.expand(__DIR__)
      |> File.stream!()
      |> Enum.map(&String.trim_trailing(&1, "\n"))

    assert length(lines) == 2_636
    read = Native.import_lines(lines)
    assert Enum.all?(read, &match?({:ok, {"patient/" <> _, _draft}}, &1))
    assert read |> Enum.uniq_by(fn {:ok, {flow, _}} -> flow end) |> length() == 100
    assert {:ok, {"patient/10001725", draft}} = hd(read)

    assert {nil, 4_426_635_600_000_000, _, 0, "procedure", 1, "mimic/ward/Med+Surg+GYN", nil, nil, "{\"hos" <> _} =
             draft
  end

  test "a line that cannot be imported gets the key and the rule, never the value" do
    good = ~s({"flow":"f","when":1,"where":null,"kind":"k","body":""})
    bad = String.replace(good, "\"when\":1", "\"when\":\"Sesame\"")

    assert [{:ok, {"f", _}}, {:error, {:when, rule}}, {:error, {nil, "must be one JSON object"}}] =
             Native.import_lines([good, bad, "{"])

    assert rule == "must be integer microseconds within ±(2^53-1), got a string"
  end
end
