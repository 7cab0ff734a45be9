defmodule EventSeal.Command.Asked do
  @moduledoc false
  # What switches ask for, as the library takes it; `:usage` if it is written in another way.

  @units %{"" => {1, :events}, "B" => {1, :bytes}, "kB" => {1_000, :bytes}, "MB" => {1_000_000, :bytes}}

  @doc "A rate: `20000` events a second, or `50MB`."
  @spec rate(String.t() | nil) :: {:ok, keyword} | :usage
  def rate(nil), do: {:ok, []}

  def rate(text) do
    case Integer.parse(text) do
      {count, unit} when count in 1..1_000_000_000 and is_map_key(@units, unit) ->
        {size, what} = @units[unit]
        {:ok, max_rate: {count * size, what}}

      _other ->
        :usage
    end
  end

  @doc "What `EventSeal.packet/3` is given for the switches of `EventSeal.Command.packet/1`."
  @spec packet(map) :: {:ok, keyword} | :usage
  def packet(switches) do
    with {:ok, since} <- time(switches[:since]),
         {:ok, until} <- time(switches[:until]),
         {:ok, range} <- range(switches[:range]),
         {:ok, disclose} <- disclose(switches[:disclose] || false, switches.show) do
      asked = [range: range, since: since, until: until, disclose: disclose]
      {:ok, Enum.reject(asked, &match?({_key, nil}, &1))}
    end
  end

  defp time(nil), do: {:ok, nil}

  defp time(text) do
    case DateTime.from_iso8601(text) do
      {:ok, at, _offset} -> {:ok, DateTime.to_unix(at, :microsecond)}
      {:error, _} -> :usage
    end
  end

  defp range(nil), do: {:ok, nil}

  defp range(text) do
    with [_, first, last] <- Regex.run(~r/\A([1-9]\d{0,15})-(\d{1,16})\z/, text),
         [first, last] when first <= last <- Enum.map([first, last], &String.to_integer/1) do
      {:ok, first..last}
    else
      _other -> :usage
    end
  end

  defp disclose(all, []), do: {:ok, all}
  defp disclose(false, positions), do: if(Enum.all?(positions, &(&1 > 0)), do: {:ok, positions}, else: :usage)
  defp disclose(true, _positions), do: :usage
end
