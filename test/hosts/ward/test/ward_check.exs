defmodule WardTest do
  use ExUnit.Case

  test "what is written is read in order, sealed and verified" do
    for bed <- 1..5, do: assert({:ok, %{euid: <<_::128>>}} = Ward.admit("4711", bed))
    assert {:ok, _} = Ward.seal("4711")
    assert Ward.stays("4711") == for(bed <- 1..5, do: "bed #{bed}")
    assert {:ok, %{events: 5, fixed: 2, fault_count: 0}} = EventSeal.verify(Ward.Events, flow: "patient/4711")
  end

  test "a wrong event is refused by name" do
    assert {:error, %EventSeal.Error{reason: :invalid, field: :kind}} =
             EventSeal.append(Ward.Events, "patient/ben", %{when: 0, kind: "", body: ""})
  end

  test "the night shift writes from Erlang into the same flow" do
    {:ok, _} = Ward.admit("carl", 1)
    {:ok, _} = :ward_night.round("carl", "sleeps")
    assert Ward.stays("carl") == ["bed 1", "sleeps"]
    assert :ward_night.stays("carl") == Ward.stays("carl")
  end
end
