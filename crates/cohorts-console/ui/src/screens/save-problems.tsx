// What is missing before a cohort can be saved, beside the button. After an attempt it is an alert.

interface Properties {
  isNameless: boolean;
  incomplete: number;
  isStrict: boolean;
}

export function SaveProblems({ isNameless, incomplete, isStrict }: Properties) {
  const steps: string[] = [];
  if (isNameless) steps.push('enter a name');
  if (incomplete > 0) steps.push(incomplete === 1 ? 'complete 1 criterion' : `complete ${incomplete} criteria`);
  if (steps.length === 0) return null;
  const words = `To save: ${steps.join(', ')}.`;
  return isStrict ? (
    <small class="problem" role="alert">
      {words}
    </small>
  ) : (
    <small class="faint">{words}</small>
  );
}
