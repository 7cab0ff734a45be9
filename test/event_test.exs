defmodule EventSeal.EventTest do
  use ExUnit.Case, async: true
  doctest EventSeal.Event
  doctest EventSeal.Verdict
  doctest EventSeal.Fault

  alias EventSeal.{Error, Event}

  @ok %{when: 1, kind: "vital"}

  test "a DateTime and its microseconds are the same" do
    {:ok, at, 0} = DateTime.from_iso8601("1910-01-01T00:00:00.000001Z")
    assert {:ok, a} = Event.draft(%{@ok | when: at})
    assert {:ok, ^a} = Event.draft(%{@ok | when: DateTime.to_unix(at, :microsecond)})
  end

  test "a DateTime that is no date is refused like any other wrong value" do
    for wrong <- [%{~U[2026-02-28 00:00:00Z] | day: 31}, %{~U[2026-02-28 00:00:00Z] | year: "2026"}] do
      assert {:error, %Error{reason: :invalid, field: :when} = error} = Event.draft(%{@ok | when: wrong})
      refute Exception.message(error) =~ "2026"
    end
  end

  test "map, keyword list and struct are the same" do
    assert {:ok, draft} = Event.draft(@ok)
    assert {:ok, ^draft} = Event.draft(Map.to_list(@ok))
    assert {:ok, ^draft} = Event.draft(struct!(Event, @ok))
  end

  test "limits hold at their edges" do
    for {field, max} <- [kind: 255, who: 512] do
      assert {:ok, _} = Event.draft(Map.put(@ok, field, String.duplicate("a", max)))
      assert {:error, %Error{field: ^field}} = Event.draft(Map.put(@ok, field, String.duplicate("a", max + 1)))
      assert {:error, %Error{field: ^field}} = Event.draft(Map.put(@ok, field, ""))
    end

    assert {:ok, _} = Event.draft(Map.put(@ok, :where, {:place, String.duplicate("é", 512)}))
    assert {:error, %Error{field: :where}} = Event.draft(Map.put(@ok, :where, {:place, String.duplicate("é", 513)}))
    assert {:ok, _} = Event.draft(Map.put(@ok, :where, {:geo, -90, 180.0}))
    assert {:error, %Error{field: :where}} = Event.draft(Map.put(@ok, :where, {:geo, 90.0000001, 0}))
    assert {:ok, _} = Event.draft(%{@ok | when: 9_007_199_254_740_991})
    assert {:error, %Error{field: :when}} = Event.draft(%{@ok | when: 9_007_199_254_740_992})
    assert {:ok, _} = Event.draft(Map.put(@ok, :body, "abc"), max_body: 3)
    assert {:error, %Error{field: :body}} = Event.draft(Map.put(@ok, :body, "abcd"), max_body: 3)
    assert {:ok, _} = Event.check_flow(String.duplicate("f", 512))
    assert {:error, %Error{field: :flow}} = Event.check_flow(String.duplicate("f", 513))
  end

  test "control characters, bad UTF-8 and library kinds are refused" do
    for bad <- ["a\n", <<0>>, "\u007F", "\u0085", <<0xFF>>] do
      assert {:error, %Error{reason: :invalid, field: :who}} = Event.draft(Map.put(@ok, :who, bad))
    end

    assert {:error, %Error{field: :kind}} = Event.draft(%{@ok | kind: "$close"})
    assert {:ok, _} = Event.draft(%{@ok | kind: "$close"}, library: true)
  end

  test "an error never shows the value" do
    secret = "Sesame 4711, HIV"

    for {field, value} <- [when: secret, where: secret, who: [secret], kind: {secret}, version: secret, body: [secret]] do
      assert {:error, error} = Event.draft(Map.put(@ok, field, value))
      assert error.field == field
      refute Exception.message(error) =~ "Sesame"
    end

    assert {:error, error} = Event.draft(Map.put(@ok, secret, 1))
    refute Exception.message(error) =~ "Sesame"
    assert {:error, error} = Event.draft(Map.put(@ok, :wen, 1))
    assert Exception.message(error) =~ "did you mean :when"
  end

  test "inspect shows neither body nor person nor place" do
    event = %Event{
      when: 1,
      kind: "vital",
      body: "HIV",
      who: "Sesame",
      where: {:place, "ward 7"},
      salt: "0123456789abcdef"
    }

    for secret <- ["HIV", "Sesame", "ward 7", "0123456789abcdef"], do: refute(inspect(event) =~ secret)
  end
end
