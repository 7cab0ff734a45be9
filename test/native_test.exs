defmodule EventSeal.NativeTest do
  use ExUnit.Case, async: true
  test "the library is loaded", do: assert(EventSeal.Native.format() == "event-seal/1")
end
