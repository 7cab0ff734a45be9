defmodule EventSeal.Page.Summary do
  @moduledoc false
  # The page of a whole store.

  import EventSeal.Page.Html, only: [el: 2, el: 3, theirs: 1]
  import EventSeal.Page.Words, only: [count: 2, count: 3, number: 1]

  alias EventSeal.Page.{Findings, Html}

  @spec of(map) :: [Html.child()]
  def of(found) do
    [
      Findings.header("report on a store", found.title, found),
      Findings.verdict(found),
      Findings.faults(found, &place/1),
      Findings.damage(found),
      Findings.checkpoint(found),
      Findings.audit(found),
      flows(found),
      Findings.legend()
    ]
  end

  defp place(fault) do
    block = if fault.block, do: ", block #{fault.block}"
    [theirs(fault.flow || "unknown flow"), ", position #{number(fault.position)}", block]
  end

  defp flows(%{flows: []}), do: nil

  defp flows(found) do
    el(:section, [
      el(:h2, "Flows"),
      el(:table, [
        el(:caption, caption(found)),
        el(
          :thead,
          el(:tr, Enum.map(["Flow", "Verdict", "Fixed", "Sandbox", "Pool", "Blocks"], &el(:th, [scope: "col"], &1)))
        ),
        el(:tbody, Enum.map(found.flows, &row(&1, found)))
      ])
    ])
  end

  defp caption(%{flows_left_out: 0} = found), do: "#{count(length(found.flows), "flow")}, those with faults first."

  defp caption(found) do
    "#{count(length(found.flows), "flow")}, those with faults first. " <>
      "#{count(found.flows_left_out, "other flow is", "other flows are")} left out here; the verdict is of all."
  end

  defp row(row, found) do
    el(:tr, [class: if(row.faults > 0, do: "bad")], [
      el(:th, [scope: "row"], [
        theirs(row.flow || "unknown flow"),
        if(row.head && row.head.closed, do: el(:span, [class: "tag"], "closed"))
      ]),
      el(:td, [data_label: "Verdict"], verdict(row, found)),
      for({label, key} <- [{"Fixed", :fixed}, {"Sandbox", :sandbox}, {"Pool", :pool}, {"Blocks", :blocks}]) do
        el(:td, [class: "number", data_label: label], if(row.head, do: number(row.head[key]), else: "–"))
      end
    ])
  end

  defp verdict(%{faults: 0}, %{all_faults: true}), do: "✓ no fault"
  defp verdict(%{faults: 0}, _found), do: "none listed"
  defp verdict(%{faults: faults}, _found), do: el(:strong, "✕ " <> count(faults, "fault"))
end
