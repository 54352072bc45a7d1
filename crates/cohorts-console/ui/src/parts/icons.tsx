// The pictures of buttons, as lines in the colour of the text. They are hidden from readers of the page.

const PATHS = {
  add: 'M8 3v10M3 8h10',
  back: 'M10 3 5 8l5 5',
  changes: 'M3 5.500h8m-2.500-2.500 2.500 2.500L8.500 8M13 10.500H5m2.500-2.500L5 10.500 7.500 13',
  check: 'm3 8.5 3.5 3.5L13 4.5',
  close: 'm4 4 8 8m0-8-8 8',
  copy: 'M5.5 5.5v-2h7v7h-2m-7-5h7v7h-7z',
  cohort: 'M6 8m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0m3 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0',
  down: 'm4 6 4 4 4-4',
  download: 'M8 2.5v7m-3-3 3 3 3-3M3 13h10',
  file: 'M4 2.5h5l3 3v8H4zM9 2.5v3h3',
  group: 'M5.5 3h-2v10h2m5-10h2v10h-2',
  list: 'M3 4.5h10M3 8h10m-10 3.5h6',
  more: 'M3.500 8h.2M8 8h.2M12.500 8h.2',
  person: 'M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Zm-5 6c.5-2.700 2.300-4 5-4s4.500 1.300 5 4',
  query: 'm3 5 3 3-3 3m5 1h5',
  search: 'M7 11.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9ZM10.500 10.500 14 14',
  trash: 'M3 4.500h10M6.500 4.500v-2h3v2m-5 0 .5 9h6l.5-9',
  up: 'm4 10 4-4 4 4',
  webhook: 'M8 3v3.500m0 3V13M3 8h3.500m3 0H13m-6.500 0a1.500 1.500 0 1 0 3 0a1.500 1.500 0 1 0-3 0',
  warning: 'M8 2.500 14 13H2zM8 6.500v3m0 1.800v.1',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width={name === 'more' ? 2.2 : 1.5} stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}
